"""How much longer tokens of long prompts take than what was drained of late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.forecast.prompt_effort import PromptEffort

FIRST_S, SLOPE_S = 50e-6, 60e-9  # of a first token, and for each token before another one


def seconds(tokens: int) -> float:
    """What a prompt takes on the engine of these tests."""
    return tokens * (FIRST_S + SLOPE_S * tokens / 2)


def measured() -> PromptEffort:
    effort = PromptEffort()
    effort.measure(512, seconds(512), 8192, seconds(8192))
    return effort


def drain(effort: PromptEffort, tokens: int, prompts: int = 100) -> None:
    for _ in range(prompts):
        each = effort.of(tokens, tokens * tokens)
        effort.drained(tokens, each, seconds(tokens))


@pytest.mark.parametrize("before", [100, 500, 2_000])
@pytest.mark.parametrize("now", [100, 500, 2_000])
def test_a_rate_of_prompts_of_one_length_is_made_that_of_another(before: int, now: int) -> None:
    effort = measured()
    drain(effort, before)
    really = (seconds(now) / now) / (seconds(before) / before)
    assert effort.times(now, now * now) == pytest.approx(really, rel=0.02)


def test_until_it_is_measured_all_tokens_take_as_long() -> None:
    effort = PromptEffort()
    drain(effort, 100)
    assert effort.times(8_192, 8_192**2) == 1.0


def test_what_is_cached_is_attended_to_as_well() -> None:
    effort = measured()
    drain(effort, 500)
    rest, cached = 100, 7_000
    assert effort.times(rest, rest * (rest + 2 * cached)) > 3 * effort.times(rest, rest * rest)


@pytest.mark.parametrize(
    ("short_s", "long_s"), [(0.1, 0.1), (0.1, 1.0), (0.0, 1.0), (1e-3, 9.0), (0.1, 0.0)]
)
def test_a_measurement_that_makes_no_sense_changes_nothing_much(
    short_s: float, long_s: float
) -> None:
    effort = PromptEffort()
    effort.measure(512, short_s, 8192, long_s)
    assert effort.per_context >= 0.0
    assert 0.25 <= effort.times(8_192, 8_192**2) <= 4.0


@given(
    st.lists(st.tuples(st.integers(1, 20_000), st.floats(1e-4, 5.0)), max_size=30),
    st.integers(0, 20_000),
    st.integers(0, 20_000),
)
def test_times_are_bounded_and_grow_with_what_is_attended_to(
    steps: list[tuple[int, float]], tokens: int, cached: int
) -> None:
    effort = measured()
    for drained, took_s in steps:
        effort.drained(drained, effort.of(drained, drained * drained), took_s)
    alone = effort.times(tokens, tokens * tokens)
    assert 0.25 <= alone <= effort.times(tokens, tokens * (tokens + 2 * cached)) <= 4.0
