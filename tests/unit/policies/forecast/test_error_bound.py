"""How late first tokens may come: learned within some tens, never beyond its ceiling, forgotten."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.admission.promises import Confidence
from forebay.policies.forecast.error_bound import ErrorBound


def lateness() -> ErrorBound:
    return ErrorBound(constant_s=0.25, ceiling_s=0.5)


def actual_s(rng: random.Random, predicted_s: float) -> float:
    """Late by a tenth of it, give or take another."""
    return predicted_s + (predicted_s + 0.25) * rng.gauss(0.1, 0.1)


def test_one_in_a_hundred_is_later() -> None:
    rng, bound, now = random.Random(3), lateness(), 0.0
    for _ in range(400):
        predicted = rng.uniform(0.05, 0.6)
        now += 0.05
        bound.add(predicted, actual_s(rng, predicted), now)
    later = 0
    for _ in range(5000):
        predicted = rng.uniform(0.05, 0.6)
        later += actual_s(rng, predicted) > predicted + bound.of(predicted, now)
    assert 0.002 < later / 5000 < 0.03


def test_some_tens_of_first_tokens_tell_most_of_it() -> None:
    rng, few, many = random.Random(5), lateness(), lateness()
    for k in range(1000):
        late = actual_s(rng, 0.4)
        many.add(0.4, late, 0.05 * k)
        if k < 40:
            few.add(0.4, late, 0.05 * k)
    assert few.of(0.4, 2.0) == pytest.approx(many.of(0.4, 50.0), rel=0.25)


def test_what_makes_all_late_by_as_much_is_not_multiplied_for_those_who_wait_long() -> None:
    rng, bound = random.Random(7), lateness()
    for k in range(300):  # as where many come at once: the front end takes a while
        predicted = rng.uniform(0.0, 0.4)
        bound.add(predicted, predicted + rng.uniform(0.16, 0.2), 0.05 * k)
    for predicted in (0.0, 0.2, 0.4):
        assert 0.19 < bound.of(predicted, 15.0) < 0.28


def test_of_waits_longer_than_any_that_was_seen_it_is_told_what_those_say() -> None:
    rng, bound = random.Random(9), lateness()
    for k in range(300):
        predicted = rng.uniform(0.0, 0.02)
        bound.add(predicted, predicted + rng.uniform(0.04, 0.06), 0.05 * k)
    relative = bound.of(0.01, 15.0) / (0.01 + 0.25)
    assert bound.of(0.6, 15.0) / (0.6 + 0.25) == pytest.approx(relative, rel=0.1)


def test_a_standstill_is_forgotten_when_nothing_comes() -> None:
    bound = lateness()
    for k in range(20):
        bound.add(0.1, 60.0, 0.1 * k)
    assert bound.of(0.4, 2.0) == 0.5
    assert bound.of(0.4, 90.0) < 0.05


errors = st.lists(
    st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 100.0), st.floats(0.0, 30.0)), max_size=40
)


@given(errors, st.floats(0.0, 5.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_it_stays_within_bounds_and_grows_with_caution(
    errors: list[tuple[float, float, float]], predicted: float, one: float, other: float
) -> None:
    bound, now = lateness(), 0.0
    for was_predicted, came_after, elapsed in errors:
        now += elapsed
        bound.add(was_predicted, came_after, now)
    bold, careful = (bound.of(predicted, now, confidence) for confidence in sorted((one, other)))
    assert 0.0 <= bold <= careful <= 0.5


def test_caution_is_little_where_nobody_waits_and_much_within_a_burst() -> None:
    confidence = Confidence()
    for _ in range(60):
        confidence.came(others_wait=False)
    assert confidence.share < 0.01
    for _ in range(20):
        confidence.came(others_wait=True)
    assert confidence.share > 0.85


@given(st.lists(st.booleans(), max_size=200))
def test_caution_is_a_share(waited: list[bool]) -> None:
    confidence = Confidence()
    for others_wait in waited:
        confidence.came(others_wait=others_wait)
        assert 0.0 <= confidence.share <= 1.0
