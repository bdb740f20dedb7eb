"""Rates that keep the promises, from a known law of steps."""

from __future__ import annotations

import random

import pytest

from forebay.policies.step_law import StepLaw
from forebay.policies.sustained import sustained

BASE_S, SEQUENCE_S, TOKEN_S = 0.02, 0.001, 0.0001


def law() -> StepLaw:
    """Learned from steps of all kinds."""
    learned, rng = StepLaw(), random.Random(1)
    for _ in range(400):
        sequences, tokens = rng.randrange(60), rng.randrange(2_000)
        learned.add(sequences, tokens, BASE_S + SEQUENCE_S * sequences + TOKEN_S * tokens)
    return learned


def test_prompts_and_answers_at_half_their_rates_fit_into_the_promised_step() -> None:
    found = sustained(law(), slots=1_000, step_tokens=100_000, tpot_s=0.1)
    assert found is not None
    steps = 1 / 0.1  # a second's
    sequences, tokens = found.decode / 2 / steps, found.prefill / 2 / steps
    step_s = BASE_S + SEQUENCE_S * sequences + TOKEN_S * tokens
    assert step_s == pytest.approx(0.1, rel=0.01)


def test_slots_and_the_largest_step_bound_what_is_promised() -> None:
    found = sustained(law(), slots=10, step_tokens=500, tpot_s=10.0)
    assert found is not None
    assert found.decode == pytest.approx(10 / (BASE_S + 10 * SEQUENCE_S), rel=0.01)
    assert found.prefill == pytest.approx(500 / (BASE_S + 500 * TOKEN_S), rel=0.01)


def test_a_promise_that_no_step_can_keep_still_leaves_a_capacity() -> None:
    found = sustained(law(), slots=10, step_tokens=500, tpot_s=BASE_S / 10)
    assert found is not None
    assert found.prefill > 0
    assert found.decode > 0


def test_steps_all_alike_tell_nothing() -> None:
    alike = StepLaw()
    for _ in range(100):
        alike.add(5, 0, 0.03)
    assert sustained(StepLaw(), 10, 500, 0.1) is None
    assert sustained(alike, 10, 500, 0.1) is None
