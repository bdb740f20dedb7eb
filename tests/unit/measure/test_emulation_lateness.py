"""How late an emulated engine says that it is."""

from __future__ import annotations

import pytest

from forebay.measure import StepLateness


def test_nothing_is_said_before_the_first_step() -> None:
    assert StepLateness().p99 is None


def test_a_single_late_step_at_the_start_does_not_speak_for_all() -> None:
    late = StepLateness()
    late.add(5.0, 1.0)
    for _ in range(20):
        late.add(0.0, 1.0)
    assert late.p99 == 0.0


def test_a_start_that_is_late_at_every_step_is_told() -> None:
    late = StepLateness()
    for _ in range(5):
        late.add(0.4, 1.0)
    assert late.p99 == pytest.approx(0.4)


def test_of_many_steps_one_in_a_hundred_may_be_late() -> None:
    late = StepLateness()
    for number in range(1000):
        late.add(0.5 if number % 200 == 0 else 0.01, 1.0)
    assert late.p99 == pytest.approx(0.01)


def test_what_was_late_long_ago_counts_among_all_steps() -> None:
    late = StepLateness()
    assert late.p99_so_far is None
    for number in range(10_000):
        late.add(0.3 if number < 200 else 0.02, 1.0)
    assert late.p99 == pytest.approx(0.02)
    assert late.p99_so_far == pytest.approx(0.3, rel=0.1)
    for _ in range(20_000):
        late.add(0.02, 1.0)
    assert late.p99_so_far == pytest.approx(0.02, rel=0.1)


def test_steps_later_than_ten_of_their_lengths_are_told_as_ten() -> None:
    late = StepLateness()
    late.add(1_000.0, 1.0)
    assert late.p99_so_far == pytest.approx(10.0, rel=0.1)
