"""The rate of recorded arrivals over time, as few constant pieces as tell it.

The time is cut into many short windows of equal length, each long enough for 20 bursts' worth of
requests, and neighbours are joined, the most alike first, until all that are left differ by 4.5
standard errors and are few enough to read. So an hour without news becomes one stage, and a
short spike keeps its own edges.
"""

from __future__ import annotations

import numpy as np

from forebay.workload.rates import Floats, Hold, RateCurve

MOST_PIECES = 24
_MOST_WINDOWS = 480
_BURSTS = 20.0  # in a window: fewer, and its count is no normal variable
# Standard errors between neighbours. Joining picks the extremes together, so that among 480 windows
# of one constant rate 4 draws a line that is not there in 9 to 17 of 100 traces, 4.5 in 1 to 5
# (measured on 10,000 and 50,000 Poisson arrivals).
_APART = 4.5
# Gaps over which the rate is taken as constant, to see how bursty they are: with 64 a dispersion of
# 9 (a CV of 3) shows as 7.9, with 256 as 8.7, but rates hold less long.
_BLOCK = 64


def fit_rate(times: Floats, seconds: float, dispersion: float) -> RateCurve:
    """At most `MOST_PIECES` constant rates that follow the arrivals.

    Args:
        times: of the arrivals in order, seconds from the start; one or more.
        seconds: for which arrivals were watched; above 0.
        dispersion: variance of counts over their mean: 1 for Poisson, the squared CV of its gaps
            for any law of independent ones.
    """
    dispersion = max(dispersion, 1.0)  # a clock's windows are still cut at random places
    windows = int(np.clip(len(times) / (_BURSTS * dispersion), 1, _MOST_WINDOWS))
    counts, edges = np.histogram(times, bins=windows, range=(0.0, seconds))
    levels, widths = _joined(counts.astype(np.float64), np.diff(edges), dispersion)
    return RateCurve(tuple(map(Hold, levels.tolist(), widths.tolist())))


def local_dispersion(times: Floats) -> float:
    """Squared CV of the gaps, each against the mean of the 64 around it: what is left of their
    variation when the rate's own changes are taken out. 1 where there are too few to tell.
    """
    gaps = np.diff(times)
    blocks = len(gaps) // _BLOCK
    if blocks == 0:
        return 1.0
    table = gaps[: blocks * _BLOCK].reshape(blocks, _BLOCK)
    means = table.mean(axis=1, keepdims=True)
    scaled = np.divide(table, means, out=np.ones_like(table), where=means > 0)
    return float(scaled.var() * _BLOCK / (_BLOCK - 1))


def operational(curve: RateCurve, times: Floats) -> Floats:
    """Arrivals expected by each time: the clock by which the rate is 1. Constant pieces only."""
    widths = np.array([piece.seconds for piece in curve.pieces])
    counts = [float(piece.expected(np.array(piece.seconds))) for piece in curve.pieces]
    edges = np.concatenate([[0.0], np.cumsum(widths)])
    reached: Floats = np.interp(times, edges, np.concatenate([[0.0], np.cumsum(counts)]))
    return reached


def _joined(counts: Floats, widths: Floats, dispersion: float) -> tuple[Floats, Floats]:
    """Rates and widths of the pieces that are left."""
    while len(counts) > 1:
        apart = _apart(counts, widths, dispersion)
        place = int(apart.argmin())
        if apart[place] >= _APART and len(counts) <= MOST_PIECES:
            break
        counts, widths = _merged(counts, place), _merged(widths, place)
    return counts / widths, widths


def _apart(counts: Floats, widths: Floats, dispersion: float) -> Floats:
    """Standard errors between the rates of each window and the next."""
    rates, each = counts / widths, 1 / widths
    pooled = (counts[:-1] + counts[1:]) / (widths[:-1] + widths[1:])
    error = np.sqrt(dispersion * pooled * (each[:-1] + each[1:]))
    away: Floats = np.abs(np.diff(rates))
    np.divide(away, error, out=away, where=error > 0)  # without an arrival on either side, 0 it is
    return away


def _merged(values: Floats, place: int) -> Floats:
    """The values with the one at `place` and the next added up."""
    return np.concatenate(
        [values[:place], [values[place] + values[place + 1]], values[place + 2 :]]
    )
