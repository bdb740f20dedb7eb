"""Arrival processes: their counts, gaps and bursts are those of the law asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import Constant, Gamma, Hold, Law, LinearRamp, Poisson, RateCurve
from forebay.workload.arrivals import arrivals
from forebay.workload.rates import Floats

LONG = RateCurve((Hold(100.0, 200.0),))


def drawn(law: Law, seed: int, curve: RateCurve = LONG) -> Floats:
    return arrivals(curve, law, np.random.default_rng(seed))


def ks_distance(values: Floats, cdf: Floats) -> float:
    """Largest distance between the values' empirical law and `cdf` at the sorted values."""
    n = len(values)
    return float(max(np.max(np.arange(1, n + 1) / n - cdf), np.max(cdf - np.arange(n) / n)))


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.sort(np.diff(drawn(Poisson(), 1)))
    distance = ks_distance(gaps, 1.0 - np.exp(-100.0 * gaps))
    assert distance < 1.63 / np.sqrt(len(gaps))  # the 1 % critical value of Kolmogorov's law


def test_poisson_counts_vary_as_much_as_they_should() -> None:
    times = drawn(Poisson(), 2)
    counts = np.bincount(times.astype(int), minlength=200)
    assert 0.7 < counts.var() / counts.mean() < 1.35
    totals = [len(drawn(Poisson(), seed)) for seed in range(200)]
    assert 0.75 < np.var(totals) / np.mean(totals) < 1.3  # not scaled to the rate asked for


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_gamma_gaps_have_the_cv_asked_for(cv: float) -> None:
    gaps = np.diff(np.concatenate([[0.0], drawn(Gamma(cv), 3, RateCurve((Hold(100, 2000),)))]))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    assert 1.0 / gaps.mean() == pytest.approx(100, rel=0.03)


@pytest.mark.parametrize(("cv", "seconds"), [(0.3, 0.1), (3.0, 0.1), (30.0, 2.0)])
def test_a_process_with_memory_starts_in_mid_flow(cv: float, seconds: float) -> None:
    """At second 0 there is neither a gap nor a burst, however long the law remembers."""
    curve = RateCurve((Hold(100.0, seconds),))
    first = [len(drawn(Gamma(cv), seed, curve)) for seed in range(1000)]
    error = np.std(first) / np.sqrt(1000)
    assert np.mean(first) == pytest.approx(100 * seconds, abs=4 * error)


def test_a_clock_ticks() -> None:
    times = drawn(Constant(), 0, RateCurve((Hold(4, 10),)))
    assert len(times) == 40
    assert np.diff(times) == pytest.approx(0.25)


def test_a_clock_starts_anywhere_within_its_first_gap() -> None:
    curve = RateCurve((Hold(4, 1),))
    first = np.sort([drawn(Constant(), seed, curve)[0] for seed in range(1000)])
    assert 0 <= first[0] <= first[-1] <= 0.25
    assert ks_distance(first, first / 0.25) < 1.63 / np.sqrt(1000)


@given(st.integers(0, 2**32 - 1), st.sampled_from([Poisson(), Gamma(2.0), Constant()]))
def test_arrivals_ascend_inside_the_curve_and_depend_on_the_seed_alone(seed: int, law: Law) -> None:
    curve = RateCurve((LinearRamp(0, 20, 5), Hold(0, 2), Hold(20, 3)))
    times = drawn(law, seed, curve)
    assert (np.diff(times) >= 0).all()
    assert len(times) == 0 or (times[0] >= 0 and times[-1] <= curve.seconds)
    assert times.tolist() == drawn(law, seed, curve).tolist()


def test_more_arrive_where_the_rate_is_higher() -> None:
    times = drawn(Poisson(), 5, RateCurve((LinearRamp(0, 200, 100),)))
    assert np.mean(times > 50) == pytest.approx(0.75, abs=0.02)


def test_no_cv_below_zero() -> None:
    with pytest.raises(ValueError, match="cv"):
        Gamma(0)
