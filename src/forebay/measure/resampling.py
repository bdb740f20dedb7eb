"""Resamples of one run, drawn in blocks of time.

Requests that wait in the same queue are late together, so drawing them one by one would make every
interval too narrow. A circular block bootstrap (Politis & Romano 1992, "A circular block-resampling
procedure for stationary data") draws stretches of time instead, from a run whose end is joined to
its start. Stretches of time, not of a number of requests: how many arrive in one varies too, and
goodput with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forebay.measure.samples import Counts, Draws, Floats, Ints, RunSample
from forebay.measure.statistic import Statistic

TAIL = 0.025  # beyond each end of a 95 % interval
_COUNTS_AT_ONCE = 2_000_000  # 8 MB
_TINY = 1e-9  # a spectrum of 0 asks for the longest block there may be


@dataclass(frozen=True, slots=True, eq=False)
class Replicates:
    """One figure of the resamples of one run.

    Attributes:
        values: shape (resamples,); NaN where it is not defined.
        blocks: how many blocks a resample is made of.
        bounded: whether the run says how high the figure can be (see `Statistic.bounded`).
    """

    values: Floats
    blocks: int
    bounded: bool


def resample(
    run: RunSample, statistics: Sequence[Statistic], rng: np.random.Generator, resamples: int
) -> list[Replicates]:
    """Each statistic of the same ``resamples`` resamples of a run."""
    longest = max((block_length(one.influence(run)) for one in statistics), default=1.0)
    blocks = max(1, round(run.size / longest))
    rows = max(1, _COUNTS_AT_ONCE // max(1, run.longest))
    parts = [
        _figures(run, statistics, draw(run, blocks, min(rows, resamples - done), rng))
        for done in range(0, resamples, rows)
    ]
    values = np.concatenate(parts, axis=1)
    return [
        Replicates(row, blocks, one.bounded(run, TAIL))
        for row, one in zip(values, statistics, strict=True)
    ]


def block_length(series: Floats) -> float:
    """The best length of a circular block for the mean of a series, in places of it.

    Politis & White 2004, "Automatic block-length selection for the dependent bootstrap", with the
    correction of Patton, Politis & White 2009: long enough to hold the correlation, short enough
    to leave many blocks. Never above 3 sqrt(n) nor n/3, their practical limit.
    """
    n = len(series)
    if n < 3 or np.ptp(series) == 0:
        return 1.0
    most = min(n - 1, math.ceil(math.sqrt(n)) + _quiet_lags(n))
    correlation = _autocorrelation(series, most)
    reach = min(most, 2 * _last_correlated_lag(correlation, n))
    lags = np.arange(1, reach + 1)
    weighted = np.clip(2 * (1 - lags / reach), 0, 1) * correlation[1:][:reach]
    slope, spectrum = 2 * float(lags @ weighted), abs(1 + 2 * float(weighted.sum()))
    length = (1.5 * n * slope**2 / max(spectrum, _TINY) ** 2) ** (1 / 3)
    return float(np.clip(length, 1.0, min(3 * math.sqrt(n), n / 3)))


def _quiet_lags(n: int) -> int:
    """How many lags in a row must look uncorrelated: K_N of Politis & White."""
    return max(5, math.ceil(math.sqrt(math.log10(n))))


def _last_correlated_lag(correlation: Floats, n: int) -> int:
    """The lag (1 or more) after which `_quiet_lags` in a row look uncorrelated."""
    quiet = np.abs(correlation[1:]) < 2 * math.sqrt(math.log10(n) / n)
    window = min(_quiet_lags(n), len(quiet))
    run = np.convolve(quiet, np.ones(window), mode="valid") > window - 0.5
    return max(1, int(np.argmax(run))) if run.any() else len(quiet)


def _autocorrelation(series: Floats, most: int) -> Floats:
    """At lags 0 to ``most``, of a series that is not constant."""
    centred = series - series.mean()
    centred /= np.abs(centred).max()  # or the squares of tiny values would vanish
    products = np.array([centred[: len(series) - lag] @ centred[lag:] for lag in range(most + 1)])
    correlation: Floats = products / products[0]
    return correlation


def draw(run: RunSample, blocks: int, rows: int, rng: np.random.Generator) -> Counts:
    """How often each request lies in the blocks of each row, shape (rows, requests)."""
    sent, n = run.intended_s, run.size
    span = max(run.duration_s, np.nextafter(sent[-1], np.inf)) if n else run.duration_s
    starts = rng.random((rows, blocks)) * span
    ends = starts + span / blocks
    beyond = ends >= span
    # A block adds one at its first request and takes it away past its last. One that runs over
    # the end of the run holds every request but those between its end and its start.
    row = np.arange(rows)[:, None] * (n + 1)
    steps = _at(row + np.searchsorted(sent, starts), rows * (n + 1))
    steps -= _at(row + np.searchsorted(sent, np.where(beyond, ends - span, ends)), len(steps))
    within = np.cumsum(steps.reshape(rows, n + 1)[:, :n], axis=1)
    counts: Counts = (within + beyond.sum(axis=1)[:, None]).astype(np.int32)
    return counts


def _at(places: Ints, size: int) -> Ints:
    """How often each of ``size`` places occurs."""
    return np.bincount(places.ravel(), minlength=size)


def _figures(run: RunSample, statistics: Sequence[Statistic], counts: Counts) -> Floats:
    """Shape (statistics, rows)."""
    draws = Draws(run, counts)
    return np.stack([one.under(draws) for one in statistics])
