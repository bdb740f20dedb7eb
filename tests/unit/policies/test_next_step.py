"""Where in its steps the engine is, and what that says of a first token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.expectation import Factor
from forebay.policies.next_step import NextStep
from forebay.policies.step_law import StepLaw

STEP_TOKENS = 2048
BASE_S, PER_SEQUENCE_S, PER_TOKEN_S = 0.002, 0.0002, 0.00005


def law() -> StepLaw:
    made = StepLaw()
    made.base_s, made.per_sequence_s, made.per_token_s = BASE_S, PER_SEQUENCE_S, PER_TOKEN_S
    return made


def test_on_an_idle_engine_it_is_the_way_in_and_the_own_step() -> None:
    engine = NextStep(STEP_TOKENS)
    for _ in range(200):
        engine.entered(0.004)
    expected = 0.004 + BASE_S + 100 * PER_TOKEN_S
    assert engine.first_token_s(law(), 0, 0, 100, 5.0) == pytest.approx(expected)


def test_of_a_step_that_runs_only_the_rest_is_waited_for() -> None:
    engine = NextStep(STEP_TOKENS)
    engine.began(10.0, running=50, prompt_tokens=200, prompts=1)
    step_s = BASE_S + 50 * PER_SEQUENCE_S + 200 * PER_TOKEN_S
    own_s = BASE_S + 51 * PER_SEQUENCE_S + 100 * PER_TOKEN_S
    at_once = engine.first_token_s(law(), 51, 200, 100, 10.0)
    half_way = engine.first_token_s(law(), 51, 200, 100, 10.0 + step_s / 2)
    long_after = engine.first_token_s(law(), 51, 200, 100, 11.0)
    assert at_once == pytest.approx(step_s + own_s)
    assert half_way == pytest.approx(step_s / 2 + own_s)
    assert long_after == pytest.approx(own_s)


def test_prompts_that_came_since_share_the_own_step() -> None:
    engine = NextStep(STEP_TOKENS)
    engine.began(10.0, running=1, prompt_tokens=0, prompts=0)
    alone = engine.first_token_s(law(), 1, 0, 100, 11.0)
    with_others = engine.first_token_s(law(), 3, 400, 100, 11.0)
    assert alone is not None
    assert with_others == pytest.approx(alone + 2 * PER_SEQUENCE_S + 400 * PER_TOKEN_S)


def test_a_long_prompt_takes_a_step_for_each_of_its_parts() -> None:
    engine = NextStep(STEP_TOKENS)
    four_parts = engine.first_token_s(law(), 0, 0, 1024, 0.0)
    assert four_parts == pytest.approx(4 * BASE_S + 1024 * PER_TOKEN_S)


def test_nothing_is_said_before_the_steps_are_known() -> None:
    assert NextStep(STEP_TOKENS).first_token_s(StepLaw(), 0, 0, 100, 0.0) is None


@given(
    running=st.integers(0, 64),
    queued=st.integers(0, 10_000),
    prompts=st.integers(0, 64),
    own=st.integers(1, 10_000),
    elapsed=st.floats(0.0, 100.0),
)
def test_it_is_at_least_the_own_step_and_falls_while_a_step_runs(
    running: int, queued: int, prompts: int, own: int, elapsed: float
) -> None:
    engine = NextStep(STEP_TOKENS)
    engine.began(0.0, running, queued, prompts)
    now = engine.first_token_s(law(), running + prompts, queued, own, elapsed)
    later = engine.first_token_s(law(), running + prompts, queued, own, elapsed + 0.01)
    assert now is not None
    assert later is not None
    assert later <= now
    assert later >= BASE_S + own * PER_TOKEN_S - 1e-9


def test_what_comes_late_by_a_multiple_is_told_so() -> None:
    factor = Factor()
    for step in range(400):
        factor.add(0.01 * (1 + step % 7), 0.015 * (1 + step % 7))
    assert factor.of(0.2) == pytest.approx(0.3)


def test_one_that_is_very_late_moves_little() -> None:
    factor = Factor()
    for _ in range(200):
        factor.add(0.02, 0.02)
    factor.add(0.02, 2.0)
    assert factor.of(0.02) < 0.0212


def test_few_first_tokens_and_odd_ones_teach_nothing() -> None:
    factor = Factor()
    for _ in range(10):
        factor.add(0.1, 0.5)
    for _ in range(100):
        factor.add(0.0, 0.5)
    assert factor.of(0.1) == 0.1
