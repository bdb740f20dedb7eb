"""Steps stay as far below the promised pace as nearly all answers need to keep it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_replica import H100, OneReplica, capacity, poisson

from forebay.policies.forecast.promised_pace import PaceMargin

TPOT_S = 0.03


def ended(margin: PaceMargin, late: int, of: int, now: float) -> None:
    """So many answers end that began just before, the first ones late."""
    for number in range(of):
        margin.ended(now, now, late=number < late)


def test_it_falls_while_answers_are_late_and_comes_back_when_none_is() -> None:
    margin = PaceMargin()
    for epoch in range(10):
        ended(margin, 32, 64, float(epoch))
    low = margin.share
    assert 0.7 <= low < 0.8
    for epoch in range(100):
        ended(margin, 0, 64, 10.0 + epoch)
    assert margin.share == 1.0


def test_a_few_late_ones_change_nothing() -> None:
    margin = PaceMargin()
    for epoch in range(50):
        ended(margin, 3, 64, float(epoch))
    assert margin.share == 1.0


def test_who_was_let_in_before_the_last_change_is_not_judged_by_it() -> None:
    margin = PaceMargin()
    ended(margin, 64, 64, 10.0)
    once = margin.share
    for _ in range(640):
        margin.ended(5.0, 20.0, late=True)
    assert margin.share == once < 1.0


@given(st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=500))
def test_it_stays_within_its_bounds(answers: list[tuple[float, bool]]) -> None:
    margin = PaceMargin()
    for began_at, late in answers:
        margin.ended(began_at, began_at + 1.0, late=late)
        assert 0.7 <= margin.share <= 1.0


@pytest.mark.slow
def test_an_overloaded_engine_makes_nearly_all_that_it_lets_in_at_the_promised_pace() -> None:
    """Beside prompts of very different lengths some answers have far longer steps than others."""
    profile = replace(H100, max_num_seqs=256)
    replica = OneReplica(profile=profile, tpot_s=TPOT_S)
    kinds = [(300, 100, 0.6), (6_000, 200, 0.9)]  # prompt, answer, and load in engines
    asks = [
        ask
        for prompt, answer, load in kinds
        for ask in poisson(
            load * capacity(prompt, answer, profile), 60.0, prompt, answer, start=replica.now
        )
    ]
    fates = replica.run(sorted(asks, key=lambda ask: ask.at))
    paces = [
        (fate.ended_at - fate.first_at) / (fate.ask.answer - 1)
        for fate in fates
        if fate.ended_at is not None and fate.first_at is not None
    ]
    later = np.array(paces[len(paces) // 2 :])
    assert len(later) > 500
    assert float((later <= TPOT_S).mean()) >= 0.9
