"""A queue that grows is seen before it breaks the objective; one that does not is left alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import sample

from forebay.measure import RequestRecord, ttft_trend
from forebay.measure.stationarity import mann_kendall

CAPACITY = 100.0  # requests/s of the simulated server
SECONDS, WARM = 30.0, 6.0


def queue(load: float, seed: int) -> list[RequestRecord]:
    """Poisson arrivals at a server of a constant service time (M/D/1), first token at its end."""
    rng = np.random.default_rng(seed)
    rate, service, free = load * CAPACITY, 1 / CAPACITY, 0.0
    records = []
    for sent in np.sort(rng.uniform(0, SECONDS, rng.poisson(rate * SECONDS))).tolist():
        free = max(free, sent) + service
        records.append(sample(intended_s=sent, first_token_s=free))
    return records


def growing(records: list[RequestRecord], slo_s: float) -> bool:
    return ttft_trend(records, WARM, SECONDS, slo_s).growing


@pytest.mark.parametrize("slo_s", [0.1, 1.0])
def test_a_queue_beyond_capacity_is_seen(slo_s: float) -> None:
    assert sum(growing(queue(1.1, seed), slo_s) for seed in range(100)) >= 95


@pytest.mark.parametrize("slo_s", [0.1, 1.0])
def test_a_queue_that_comes_and_goes_is_not(slo_s: float) -> None:
    """0.1 s is near what this server gives, where a quarter of it is soon exceeded."""
    assert sum(growing(queue(0.8, seed), slo_s) for seed in range(100)) <= 5


def test_it_is_seen_while_the_objective_is_still_met() -> None:
    slow = [sample(intended_s=s / 50, first_token_s=s / 50 + 0.02 * s / 50) for s in range(1500)]
    trend = ttft_trend(slow, WARM, SECONDS, 1.0)
    assert trend.growing
    assert trend.rise_s == pytest.approx(0.34, abs=0.03)  # 2 % of 17 s


def test_a_sure_rise_too_small_to_matter_is_not_a_growing_queue() -> None:
    drift = [sample(intended_s=s / 50, first_token_s=s / 50 + 1e-5 * s) for s in range(1500)]
    trend = ttft_trend(drift, 0, SECONDS, 1.0)
    assert trend.chance < 0.001
    assert not trend.growing


def test_requests_without_a_first_token_are_endless() -> None:
    places = [s / 8 for s in range(120)]  # of a second, exact in binary
    served = [sample(intended_s=s, first_token_s=s + 0.125) for s in places]
    lost = [sample(intended_s=15 + s, first_token_s=None, outcome="timeout") for s in places]
    trend = ttft_trend(served + lost, 0, SECONDS, 1.0)
    assert (trend.growing, trend.rise_s) == (True, math.inf)
    assert not ttft_trend(lost, 15, SECONDS, 1.0).growing  # as bad at the end as at the start


def test_who_left_does_not_count() -> None:
    stay = [sample(intended_s=s / 10, first_token_s=s / 10 + 0.1) for s in range(300)]
    left = [
        sample(intended_s=s / 10, first_token_s=None, outcome="cancelled") for s in range(150, 300)
    ]
    assert not ttft_trend([*stay, *left, *left], 0, SECONDS, 1.0).growing


@pytest.mark.parametrize("count", [60, 75, 100])
def test_at_low_rates_fewer_windows_tell(count: int) -> None:
    """As of a slow model that answers two a second: 3 % too many, for half a minute."""
    places = [SECONDS * s / count for s in range(count)]
    rising = [sample(intended_s=s, first_token_s=s + 0.5 + 0.03 * s) for s in places]
    steady = [sample(intended_s=s, first_token_s=s + 0.5) for s in places]
    assert ttft_trend(rising, 0, SECONDS, 1.0).growing
    told = ttft_trend(steady, 0, SECONDS, 1.0)
    assert not told.growing
    assert told.rise_s == pytest.approx(0.0)


@pytest.mark.parametrize("count", [0, 4, 20, 59])
def test_of_too_little_no_trend_is_told(count: int) -> None:
    few = [sample(intended_s=float(s), first_token_s=s + 0.1 * s) for s in range(count)]
    trend = ttft_trend(few, 0, SECONDS, 1.0)
    assert (trend.growing, trend.rise_s, trend.chance) == (False, None, 1.0)


def test_what_lies_outside_the_stretch_is_not_looked_at() -> None:
    steady = [sample(intended_s=s / 10, first_token_s=s / 10 + 0.1) for s in range(300)]
    early = [sample(intended_s=0.1 * s, first_token_s=9.0) for s in range(50)]
    assert ttft_trend(steady + early, 6, 24, 1.0) == ttft_trend(steady, 6, 24, 1.0)


def test_the_trend_of_ten_rising_values_is_near_certain() -> None:
    """S = 45 of 45 pairs, deviation sqrt(10 * 9 * 25 / 18) = 11.18: z = 44 / 11.18."""
    assert mann_kendall(list(range(10))) == pytest.approx(4.16e-5, rel=0.01)
    assert mann_kendall(list(range(10, 0, -1))) > 0.9999
    assert mann_kendall([1.0] * 10) > 0.5


@pytest.mark.parametrize("values", [[], [1.0]])
def test_of_one_value_there_is_no_trend(values: list[float]) -> None:
    assert mann_kendall(values) == 1.0


def test_false_alarms_are_as_rare_as_they_say() -> None:
    rng = np.random.default_rng(7)
    chances = np.array([mann_kendall(rng.random(10).tolist()) for _ in range(4000)])
    for level in (0.01, 0.05, 0.2):
        assert np.mean(chances < level) <= level + 4 * np.sqrt(level / 4000)


@given(st.lists(st.integers(0, 100), max_size=12))
def test_a_trend_depends_on_the_order_alone(values: list[int]) -> None:
    assert mann_kendall(values) == mann_kendall([value**3 + 5 for value in values])
    assert mann_kendall(values) == mann_kendall([math.inf if v == 100 else v for v in values])
