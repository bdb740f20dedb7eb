"""Which prompts are computed in parts: the long ones beside those that come otherwise."""

from __future__ import annotations

import pytest
from admissions import CLASSES, admission, admission_config, admit
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    ClassPolicy,
    Cost,
    Cutting,
    Ticket,
)

STEP_TOKENS = 2048
CONFIG = admission_config(
    classes={**CLASSES, INTERACTIVE: ClassPolicy(3.0, 6.0, 8.0)},
    slots=512,
    kv_tokens=100_000_000,
    step_tokens=STEP_TOKENS,
)


class Gate:
    """An admission that lets everybody in."""

    def __init__(self) -> None:
        self.policy = admission(CONFIG, context=100_000)
        self.now = 0.0

    def admit(self, prompt: int, class_name: str = INTERACTIVE) -> Ticket:
        self.now += 1.0
        cost = Cost(sequences=1, prefill_tokens=prompt, output_tokens=64, output_cap=64)
        ticket = admit(self.policy, cost, class_name, now=self.now)
        self.policy.close(ticket, self.now)
        return ticket


def test_what_fits_in_a_step_is_never_cut() -> None:
    gate = Gate()
    assert not any(gate.admit(prompt).in_parts for prompt in (10, STEP_TOKENS) for _ in range(50))


def test_a_prompt_that_is_long_beside_the_usual_is_cut() -> None:
    gate = Gate()
    assert gate.admit(STEP_TOKENS + 1).in_parts  # nobody has come before it
    for _ in range(500):
        gate.admit(200)
    assert gate.admit(STEP_TOKENS + 1).in_parts


def test_where_prompts_of_several_steps_are_usual_they_are_computed_in_one_go() -> None:
    gate = Gate()
    for _ in range(500):
        gate.admit(900)
    assert not gate.admit(3 * STEP_TOKENS).in_parts
    assert gate.admit(4 * STEP_TOKENS).in_parts


def test_one_very_long_prompt_in_ten_stays_one_that_is_cut() -> None:
    gate = Gate()
    for _ in range(100):
        for _ in range(9):
            gate.admit(200)
        assert gate.admit(40_000).in_parts


def test_batch_does_not_make_long_prompts_usual() -> None:
    gate = Gate()
    for _ in range(500):
        gate.admit(200)
        gate.admit(20_000, BATCH)
    assert gate.admit(3_000).in_parts


def test_the_warm_up_is_no_traffic() -> None:
    gate = Gate()
    for _ in range(500):
        gate.admit(2_000)
    gate.policy.forget_warm_up()
    assert gate.admit(STEP_TOKENS + 1).in_parts


@given(st.lists(st.integers(0, 200_000), max_size=300), st.integers(1, 16_384))
def test_from_a_step_on_up_to_some_times_the_longest(prompts: list[int], step: int) -> None:
    cutting = Cutting(step)
    for tokens in prompts:
        cutting.came(tokens)
    assert step <= cutting.uncut <= max(8 * max(prompts, default=1), 8, step)


@pytest.mark.parametrize("usual", [50, 900, 5_000])
def test_it_follows_what_comes_now(usual: int) -> None:
    cutting = Cutting(STEP_TOKENS)
    for tokens in (5_000, 50, usual):
        for _ in range(1_500):
            cutting.came(tokens)
    assert cutting.uncut == pytest.approx(max(8 * usual, STEP_TOKENS), rel=0.01)
