"""The search for a rate ends, keeps within its limits, and finds what a noisy server sustains."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.capacity import Next, RateSearch, Trial, bracket

Server = Callable[[Next], bool]


def search(server: Server, plan: RateSearch) -> list[Trial]:
    """Every trial of a search, each judged by the server."""
    trials: list[Trial] = []
    while (tried := plan.next(trials)) is not None:
        sustained = server(tried)
        reason = "fine" if sustained else "too slow"
        trials.append(Trial(tried.rate, sustained, reason, tried.precise))
    return trials


def exact(capacity: float) -> Server:
    return lambda tried: tried.rate <= capacity


def noisy(capacity: float, seed: int, precise: float = 0.01, short: float = 0.04) -> Server:
    """A server whose capacity looks another in each trial; more so in a short one."""
    rng = np.random.default_rng(seed)

    def judge(tried: Next) -> bool:
        spread = precise if tried.precise else short
        return tried.rate <= capacity * (1 + spread * rng.standard_normal())

    return judge


@given(st.floats(0.02, 9e5), st.floats(0.01, 1e6), st.floats(1.01, 2))
def test_without_noise_the_capacity_lies_in_the_interval(
    capacity: float, start: float, tolerance: float
) -> None:
    plan = RateSearch(start=start, tolerance=tolerance, most_trials=200)
    found = plan.found(search(exact(capacity), plan))
    assert found.high is not None
    assert found.rate == found.low <= capacity < found.high
    assert found.high <= found.low * tolerance
    assert "gave up" not in found.reason


def test_a_noisy_servers_capacity_is_found_within_5_percent() -> None:
    plan = RateSearch(start=12.0)
    near, held, tried = 0, 0, []
    for seed in range(100):
        trials = search(noisy(60.0, seed), plan)
        found = plan.found(trials)
        assert found.high is not None
        near += abs(found.rate / 60.0 - 1) <= 0.05
        held += found.low <= 60.0 * 1.03 and found.high >= 60.0 * 0.97  # three deviations
        tried.append(len(trials))
    assert near >= 95
    assert held >= 95
    assert np.mean(tried) < 15


@pytest.mark.parametrize("start", [0.5, 30.0, 59.0, 100.0, 1000.0])
def test_it_is_found_from_anywhere(start: float) -> None:
    plan = RateSearch(start=start)
    found = [plan.found(search(noisy(60.0, seed), plan)).rate for seed in range(100)]
    assert sum(abs(rate / 60.0 - 1) <= 0.05 for rate in found) >= 95


def test_one_short_trial_that_failed_by_chance_does_not_decide() -> None:
    """Such a failure far below the capacity is tried again at length before it is believed."""
    for seed in range(20):
        honest, told = noisy(60.0, seed), iter([True, False])
        plan = RateSearch(start=10.0)

        def unlucky(tried: Next, honest: Server = honest, told: object = told) -> bool:
            return next(told, honest(tried))  # type: ignore[call-overload, no-any-return]

        found = plan.found(search(unlucky, plan))
        assert found.rate == pytest.approx(60.0, rel=0.06)


@given(st.lists(st.booleans(), min_size=40, max_size=40), st.floats(0.5, 50))
def test_whatever_the_server_does_the_search_ends_within_its_limits(
    answers: list[bool], start: float
) -> None:
    plan = RateSearch(start=start, least=0.5, most=50.0, most_trials=25)
    said = iter(answers)
    trials = search(lambda _: next(said), plan)
    assert 0 < len(trials) <= 25
    assert all(0.5 <= trial.rate <= 50.0 for trial in trials)
    found = plan.found(trials)
    assert 0 <= found.low == found.rate <= 50.0
    assert found.high is None or found.low < found.high
    for trial in trials:
        if trial.precise and not trial.sustained:
            assert found.rate < trial.rate
    if found.rate and "gave up" not in found.reason:
        passed = [trial for trial in trials if trial.rate == found.rate and trial.precise]
        assert len(passed) >= plan.confirmations
        assert all(trial.sustained for trial in passed)


def test_a_server_that_sustains_everything_is_tried_up_to_the_limit() -> None:
    plan = RateSearch(start=1.0, most=100.0)
    trials = search(lambda _: True, plan)
    found = plan.found(trials)
    assert (found.rate, found.high) == (100.0, None)
    assert found.reason == "100/s is sustained, more was not tried"
    assert [trial.precise for trial in trials[-2:]] == [True, True]
    rising = [trial.rate for trial in trials[:-1]]
    assert all(later >= earlier for earlier, later in pairwise(rising))


def test_a_server_that_sustains_nothing_is_tried_down_to_the_limit() -> None:
    plan = RateSearch(start=4.0, least=1.0)
    trials = search(lambda _: False, plan)
    assert [trial.rate for trial in trials] == [4.0, 2.0, 1.0, 1.0]
    assert trials[-1].precise
    found = plan.found(trials)
    assert (found.rate, found.low, found.high) == (0.0, 0.0, 1.0)
    assert found.reason == "1/s is not sustained: too slow"


def test_where_every_rate_fails_no_long_trial_of_the_least_has_to_say_so() -> None:
    plan = RateSearch(start=4.0, least=0.25)
    trials = search(lambda _: False, plan)
    assert [trial.rate for trial in trials] == [4.0, 2.0, 1.0, 0.5, 0.25]
    assert not any(trial.precise for trial in trials)
    assert plan.found(trials).rate == 0.0


def test_giving_up_is_told() -> None:
    plan = RateSearch(start=0.1, most_trials=5)
    found = plan.found(search(lambda _: True, plan))
    assert found.reason.startswith("gave up after 5 trials; ")
    assert plan.found([]).reason == "nothing was tried"


def test_the_rate_that_passed_and_failed_counts_as_failed() -> None:
    trials = [Trial(10.0, True), Trial(12.0, True), Trial(12.0, False), Trial(15.0, True)]
    assert bracket(trials) == (10.0, 12.0)


def test_a_precise_pass_overrules_short_failures_below_it() -> None:
    short = Trial(8.0, False, precise=False)
    assert bracket([short, Trial(10.0, True)]) == (10.0, None)
    assert bracket([Trial(8.0, False), Trial(10.0, True)]) == (None, 8.0)
    assert bracket([short, Trial(10.0, True, precise=False)]) == (None, 8.0)
    assert bracket([]) == (None, None)


def test_the_last_trials_are_precise_ones_at_the_answer() -> None:
    plan = RateSearch(start=10.0, confirmations=3)
    trials = search(exact(47.0), plan)
    at_answer = [trial for trial in trials if trial.rate == plan.found(trials).rate]
    assert sum(trial.precise for trial in at_answer) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"start": 0.0},
        {"start": 0.001},
        {"start": 2e6},
        {"start": float("nan")},
        {"start": 5.0, "most": 4.0},
        {"start": 5.0, "tolerance": 1.0},
        {"start": 5.0, "tolerance": float("nan")},
    ],
)
def test_an_impossible_search_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"between its limits|factor above 1"):
        RateSearch(**changes)  # type: ignore[arg-type]
