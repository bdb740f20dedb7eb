"""Rates and gaps recovered from arrivals that were drawn from known ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.workload import Constant, Gamma, Hold, Law, Poisson, RateCurve
from forebay.workload.arrivals import arrivals
from forebay.workload.gap_fitting import (
    dispersion_of_counts,
    fit_arrivals,
    fit_gaps,
    operational_gaps,
)
from forebay.workload.rate_fitting import MOST_PIECES, fit_rate, local_dispersion, operational
from forebay.workload.rates import Floats


def drawn(curve: RateCurve, law: Law, seed: int = 0) -> Floats:
    return arrivals(curve, law, np.random.default_rng(seed))


def steps(*stages: tuple[float, float]) -> RateCurve:
    return RateCurve(tuple(Hold(level, seconds) for level, seconds in stages))


def levels(curve: RateCurve) -> list[float]:
    return [piece.level for piece in curve.pieces if isinstance(piece, Hold)]


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_rate_is_one_piece(seed: int) -> None:
    curve = steps((10, 1000))
    fitted = fit_rate(drawn(curve, Poisson(), seed), 1000, 1.0)
    assert levels(fitted) == pytest.approx([10], rel=0.05)


def test_bursts_are_not_taken_for_changes_of_the_rate() -> None:
    fitted = [fit_arrivals(drawn(steps((20, 2000)), Gamma(3.0), seed), 2000) for seed in range(12)]
    assert sum(len(curve.pieces) > 1 for curve, _ in fitted) <= 2
    assert np.mean([law.cv for _, law in fitted]) == pytest.approx(3.0, rel=0.03)


def test_steps_are_found_where_they_are() -> None:
    curve = steps((5, 600), (20, 300), (10, 600))
    fitted = fit_rate(drawn(curve, Poisson()), 1500, 1.0)
    assert levels(fitted) == pytest.approx([5, 20, 10], rel=0.1)
    edges = np.cumsum([piece.seconds for piece in fitted.pieces])
    assert edges.tolist() == pytest.approx([600, 900, 1500], abs=10)


def test_a_short_spike_keeps_its_edges() -> None:
    curve = steps((5, 1800), (60, 20), (5, 1780))
    times = drawn(curve, Poisson())
    fitted = fit_rate(times, 3600, 1.0)
    top = max(levels(fitted))
    spike = next(p for p in fitted.pieces if isinstance(p, Hold) and p.level == top)
    assert top == pytest.approx(60, rel=0.25)
    assert spike.seconds == pytest.approx(20, abs=8)


def test_silence_is_a_rate_too() -> None:
    fitted = fit_rate(drawn(steps((10, 300), (0, 300), (10, 300)), Poisson()), 900, 1.0)
    assert levels(fitted) == pytest.approx([10, 0, 10], abs=1)


@settings(max_examples=40)
@given(
    st.lists(st.floats(0, 3600), min_size=1, max_size=400).map(sorted),
    st.floats(0.1, 20),
)
def test_every_fit_is_short_enough_and_keeps_time_and_number(
    times: list[float], dispersion: float
) -> None:
    curve = fit_rate(np.array(times), 3600.0, dispersion)
    assert 1 <= len(curve.pieces) <= MOST_PIECES
    assert curve.seconds == pytest.approx(3600)
    assert curve.requests == pytest.approx(len(times))


def test_operational_time_runs_at_the_rate() -> None:
    curve = steps((2, 10), (0, 5), (4, 10))
    at = np.array([0.0, 5.0, 10.0, 12.0, 15.0, 20.0, 25.0])
    assert operational(curve, at).tolist() == pytest.approx([0, 10, 20, 20, 20, 40, 60])


@pytest.mark.parametrize(
    ("law", "expected"),
    [(Poisson(), Poisson()), (Constant(), Constant()), (Gamma(2.5), Gamma), (Gamma(0.4), Gamma)],
)
def test_the_law_of_gaps_is_found_through_a_changing_rate(law: Law, expected: object) -> None:
    curve = steps((5, 900), (25, 300), (10, 600))
    found, fitted = fit_arrivals(drawn(curve, law), 1800)
    assert fitted == expected or isinstance(fitted, Gamma)
    assert isinstance(fitted, type(law))
    assert fitted.cv == pytest.approx(law.cv, rel=0.12)
    assert found.requests == pytest.approx(curve.requests, rel=0.1)


def test_a_ramp_taken_for_bursts_would_show_in_the_cv() -> None:
    """What the rate explains is no burst: the plain gaps have a CV of 1.4 here."""
    times = drawn(steps((2, 1000), (40, 100)), Poisson(), 3)
    plain = np.diff(times)
    assert plain.std() / plain.mean() > 1.3
    curve, law = fit_arrivals(times, 1100)
    assert law.cv == pytest.approx(1.0, abs=0.1)
    gaps = operational_gaps(curve, times)
    assert gaps.mean() == pytest.approx(1.0, abs=0.02)


def test_gaps_of_nothing_but_ties_are_a_clock_without_an_error() -> None:
    assert fit_gaps(np.zeros(50)) == Constant()


def test_dispersion_tells_long_bursts_that_gaps_do_not_show() -> None:
    rng = np.random.default_rng(1)
    # Rate 0.5 and 1.5 in turns of 100: every gap is exponential, counts are not Poisson's.
    turns = [
        rng.exponential(2.0 if turn % 2 else 2 / 3, 50 + 100 * (turn % 2 == 0))
        for turn in range(80)
    ]
    lumpy, even = np.cumsum(np.concatenate(turns)), np.cumsum(rng.exponential(1.0, 8000))
    assert dispersion_of_counts(even, 50.0) == pytest.approx(1.0, abs=0.4)
    assert (dispersion_of_counts(lumpy, 50.0) or 0.0) > 5.0
    assert dispersion_of_counts(even[:300], 50.0) is None


def test_local_dispersion_needs_a_block_to_speak() -> None:
    clock = np.arange(100, dtype=np.float64)
    assert local_dispersion(clock[:10]) == 1.0
    assert local_dispersion(clock) == 0.0
    assert local_dispersion(drawn(steps((10, 1000)), Poisson())) == pytest.approx(1.0, abs=0.1)
