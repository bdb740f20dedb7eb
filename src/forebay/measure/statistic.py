"""The kinds of figure that a run is judged by: a percentile, a mean per request, a rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forebay.measure.samples import Draws, Floats, RunSample


class Statistic(Protocol):
    """A figure of a run."""

    def under(self, draws: Draws) -> Floats:
        """The figure of each resample; NaN where it is not defined."""

    def influence(self, run: RunSample) -> Floats:
        """How each request moves the figure, up to a factor: shape (requests,).

        Neighbours alike in this, not in the latency itself, are what widens the interval.
        """

    def bounded(self, run: RunSample, tail: float) -> bool:
        """Whether the run says anything about how high the figure can be, but for ``tail``."""


@dataclass(frozen=True, slots=True)
class Percentile:
    """The ``q``-th percentile of a series of `RunSample`."""

    series: str
    q: float

    def under(self, draws: Draws) -> Floats:
        """Of each resample."""
        return draws.percentile(self.series, self.q)

    def influence(self, run: RunSample) -> Floats:
        """Values above the percentile less their expected share.

        A percentile's influence function (Hampel 1974) has no other shape: it matters whether a
        value lies above, not how far.
        """
        series, found = run.series[self.series], self.under(Draws.once(run))[0]
        above = (series.values > found) - (1 - self.q / 100)
        if series.weights is not None:
            above = above * series.weights
        return np.bincount(series.owners, above, minlength=run.size).astype(np.float64)

    def bounded(self, run: RunSample, tail: float) -> bool:
        """Whether the highest of its values lies above the true percentile, but for ``tail``.

        That it does not has the chance (q/100)^n: fewer than 368 values do not bound a p99.
        """
        count = len(run.series[self.series].values)
        return bool((self.q / 100) ** count <= tail)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a column of `RunSample`: a share, where the column is 0 or 1."""

    column: str

    def under(self, draws: Draws) -> Floats:
        """Of each resample."""
        return draws.mean(self.column)

    def influence(self, run: RunSample) -> Floats:
        """The column itself."""
        return run.columns[self.column]

    def bounded(self, run: RunSample, tail: float) -> bool:
        """Always."""
        return True


@dataclass(frozen=True, slots=True)
class Rate:
    """The sum of a column of `RunSample` per second."""

    column: str

    def under(self, draws: Draws) -> Floats:
        """Of each resample."""
        return draws.rate(self.column)

    def influence(self, run: RunSample) -> Floats:
        """The column itself."""
        return run.columns[self.column]

    def bounded(self, run: RunSample, tail: float) -> bool:
        """Always."""
        return True
