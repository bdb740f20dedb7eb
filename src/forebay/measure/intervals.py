"""95 % intervals of a figure: within one run, over several runs, and of the change between two.

Within one run they come from block resamples (`resampling`). Percentiles of resamples are too
narrow when few blocks make up a resample, so they are taken further out, as far as Student's t
would go: the expanded percentile interval of Hesterberg 2015, "What Teachers Should Know About the
Bootstrap", section 4.2.

Over several runs they are Student's t, between two sets Welch's (1947). Resampling five runs is
worse: the resamples of five figures never leave the span of the five, which even expanded
percentiles cannot mend, and that article finds t the more accurate for so few. It is used on
logarithms wherever figures are compared by their ratio, where run-to-run noise is nearly normal.

Figures may be +infinity (a p99 where failures count as no answer), and logarithms -infinity (a
goodput of 0). No mean exists then, but an order does: the exact tests by signs and ranks take over,
whose intervals are wider and need more runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from forebay.measure.resampling import TAIL, Replicates, resample
from forebay.measure.samples import Floats, RunSample
from forebay.measure.statistic import Statistic

RESAMPLES = 1000  # the end of an interval then rests on 25 of them
_ANGLES = np.linspace(0.0, math.pi / 2, 20_001)


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``, both included; either may be infinite."""

    low: float
    high: float

    @classmethod
    def around(cls, centre: float, half_width: float) -> Interval:
        """Symmetric about its centre."""
        return cls(centre - half_width, centre + half_width)

    def clipped(self, low: float, high: float) -> Interval:
        """Cut to what is possible."""
        return Interval(min(max(self.low, low), high), max(min(self.high, high), low))


EVERYTHING = Interval(-math.inf, math.inf)


def run_intervals(
    run: RunSample,
    statistics: Sequence[Statistic],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """An interval for each statistic of one run: the noise within it, not from run to run."""
    return [interval_of_replicates(one) for one in resample(run, statistics, rng, resamples)]


def interval_of_replicates(replicates: Replicates) -> Interval:
    """Of a figure of one run."""
    tail = _expanded_tail(replicates.blocks)
    inner = _middle(replicates.values, tail)
    return Interval(
        -math.inf if replicates.blocks < 2 else inner.low,
        inner.high if replicates.bounded and replicates.blocks > 1 else math.inf,
    )


def interval_of_replicated_difference(a: Replicates, b: Replicates) -> Interval:
    """Of a figure of run B minus that of run A: each resample of A against each of B."""
    blocks = min(a.blocks, b.blocks)
    if blocks < 2:
        return EVERYTHING
    inner = _middle(_differences(a.values, b.values), _expanded_tail(blocks))
    return Interval(inner.low if a.bounded else -math.inf, inner.high if b.bounded else math.inf)


def interval_of_mean(values: Floats) -> Interval:
    """Of the mean over runs, one value a run; for pairs of runs, their differences."""
    n = len(values)
    if n < 2:
        return EVERYTHING
    if not np.isfinite(values).all():
        return _span(values, 2 / 2**n)
    error = float(values.std(ddof=1)) / math.sqrt(n)
    return Interval.around(float(values.mean()), student_t(1 - TAIL, n - 1) * error)


def interval_of_difference(a: Floats, b: Floats) -> Interval:
    """Of the mean over runs B minus that over runs A, independent of each other.

    A side of one run is taken to vary from run to run as the other does; one of the two sides must
    have two runs or more.
    """
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return _span(_differences(a, b), 2 / math.comb(len(a) + len(b), len(a)))
    error, freedom = _welch(a, b) if min(len(a), len(b)) > 1 else _pooled(a, b)
    centre = float(b.mean() - a.mean())
    return Interval.around(centre, student_t(1 - TAIL, freedom) * error)


def student_t(p: float, freedom: float) -> float:
    """The quantile of Student's t for ``p`` of 0.5 or more, at any freedom of 1 or more.

    In the angle arctan(t / sqrt(freedom)) the law has the density cos(angle)^(freedom - 1), and
    summing that up gives four digits or more, with no table.
    """
    freedom = min(freedom, 10_000.0)  # where it is normal to four digits
    density = np.cos(_ANGLES) ** (freedom - 1)
    upto = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    angle = float(np.interp(2 * p - 1, upto / upto[-1], _ANGLES))
    return math.sqrt(freedom) * math.tan(angle)


def _welch(a: Floats, b: Floats) -> tuple[float, float]:
    """Standard error of the difference of means and its degrees of freedom, each side's own."""
    of_a, of_b = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    if of_a + of_b == 0:
        return 0.0, len(a) + len(b) - 2
    share = of_a / (of_a + of_b)
    freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))
    return math.sqrt(of_a + of_b), freedom


def _pooled(a: Floats, b: Floats) -> tuple[float, float]:
    """The same with one variance for both sides."""
    freedom = len(a) + len(b) - 2
    squares = float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())
    return math.sqrt(squares / freedom * (1 / len(a) + 1 / len(b))), freedom


def _span(differences: Floats, chance: float) -> Interval:
    """From the least to the greatest difference, or nothing where that could be chance.

    Between two sets it is the widest interval of Hodges & Lehmann (1963), missed when every run of
    one side lies above every one of the other: ``chance`` is 2 of all the ways to deal the runs
    out. Of pairs it is that of the sign test, missed when all signs agree.
    """
    return EVERYTHING if chance > 2 * TAIL else _middle(differences, 0.0)


def _differences(a: Floats, b: Floats) -> Floats:
    """Each of B minus each of A; NaN for infinity minus infinity."""
    with np.errstate(invalid="ignore"):
        every: Floats = np.subtract.outer(b, a).ravel()
    return every


def _expanded_tail(blocks: int) -> float:
    """How much of the resamples to leave out at each end, for so many independent blocks."""
    if blocks < 2:
        return 0.0
    reach = math.sqrt(blocks / (blocks - 1)) * student_t(1 - TAIL, blocks - 1)
    return NormalDist().cdf(-reach)


def _middle(values: Floats, tail: float) -> Interval:
    """The values but for a share at each end. What is not defined (NaN) could lie at either."""
    place = int(tail * len(values))
    undefined = np.isnan(values)
    low = np.partition(np.where(undefined, -np.inf, values), place)[place]
    high = np.partition(np.where(undefined, np.inf, values), -1 - place)[-1 - place]
    return Interval(float(low), float(high))
