"""Rate curves: integrals and inverses that agree with the rate itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import (
    ExponentialRamp,
    Hold,
    LinearRamp,
    Piece,
    RateCurve,
    Sine,
    series,
    spike,
)

level = st.floats(0.1, 1e4)
length = st.floats(0.5, 1e4)
pieces: st.SearchStrategy[Piece] = st.one_of(
    st.builds(Hold, level, length),
    st.builds(LinearRamp, level, level, length),
    st.builds(ExponentialRamp, level, level, length),
    st.builds(lambda mean, share, period, s: Sine(mean, share * mean, period, s),
              level, st.floats(0, 1), st.floats(1, 1e4), length),
)  # fmt: skip
curves = st.lists(pieces, min_size=1, max_size=5).map(lambda made: RateCurve(tuple(made)))


@given(pieces)
def test_expected_arrivals_are_the_integral_of_the_rate(piece: Piece) -> None:
    t = np.linspace(0.0, piece.seconds, 20_001)
    rate = piece.rate(t)
    area = np.trapezoid(rate, t)
    # A trapezoid misjudges a curve by its bend; the finest sine here has 2 points a period less.
    bend = np.abs(np.diff(rate)).sum() * (t[1] - t[0])
    assert abs(area - float(piece.expected(np.array(piece.seconds)))) <= bend + 1e-6 * area


@given(curves, st.floats(0, 1))
def test_when_inverts_the_integral(curve: RateCurve, share: float) -> None:
    count = np.array([share * curve.requests])
    t = curve.when(count)
    assert 0.0 <= t[0] <= curve.seconds * (1 + 1e-9)
    reached, at = 0.0, float(t[0])
    for piece in curve.pieces:
        within = min(at, piece.seconds)
        reached += float(piece.expected(np.array(within)))
        at -= within
    assert reached == pytest.approx(count[0], rel=1e-6, abs=1e-6)


@given(curves)
def test_when_never_goes_back(curve: RateCurve) -> None:
    t = curve.when(np.linspace(0.0, curve.requests, 501))
    assert (np.diff(t) >= -1e-9 * curve.seconds).all()


def test_silence_between_two_loads_holds_no_arrival() -> None:
    curve = RateCurve((Hold(10, 1), Hold(0, 5), Hold(10, 1)))
    t = curve.when(np.linspace(0.0, 19.999, 2000))
    assert not ((t > 1.0 + 1e-9) & (t < 6.0 - 1e-9)).any()


def test_a_ramp_from_nothing_starts_at_nothing() -> None:
    ramp = LinearRamp(0, 10, 10)
    assert ramp.when(np.array([0.0, 12.5, 50.0])).tolist() == pytest.approx([0.0, 5.0, 10.0])


def test_a_spike_lies_where_it_was_put() -> None:
    curve = RateCurve(tuple(spike(1, 9, 60, start=20, length=10)))
    assert curve.seconds == 60
    assert curve.rate(np.array([0.0, 19.9, 20.0, 29.9, 30.0, 59.0])).tolist() == [1, 1, 9, 9, 1, 1]


def test_a_spike_may_end_with_its_stage_whatever_the_rounding() -> None:
    pieces = spike(1, 5, 3.3, start=1.1, length=2.2)  # 3.3 - 1.1 - 2.2 is less than 0
    assert [piece.seconds for piece in pieces] == [1.1, 2.2]
    with pytest.raises(ValueError, match="inside its stage"):
        spike(1, 5, 3.3, start=1.1, length=2.201)


def test_a_series_holds_each_rate_until_the_next_time() -> None:
    curve = RateCurve(tuple(series([0, 10, 30], [2, 5, 99])))
    assert (curve.seconds, curve.requests) == (30, 120)


def test_scaling_keeps_the_shape() -> None:
    curve = RateCurve((Hold(2, 10), LinearRamp(2, 4, 10)))
    assert curve.scaled(3).requests == pytest.approx(3 * curve.requests)
    same = np.linspace(0, 1, 11)
    assert curve.scaled(3).when(same * 3 * curve.requests) == pytest.approx(
        curve.when(same * curve.requests)
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hold(-1, 10),
        lambda: Hold(1, 0),
        lambda: ExponentialRamp(0, 5, 10),
        lambda: Sine(1, 2, 10, 10),
        lambda: Sine(1, 1, 0, 10),
        lambda: spike(1, 9, 10, start=5, length=6),
        lambda: series([0, 5, 5], [1, 1, 1]),
        lambda: series([0], [1]),
        lambda: RateCurve(()),
        lambda: RateCurve((Hold(1, 1),)).scaled(0),
    ],
)
def test_impossible_rates_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"\w"):
        make()
