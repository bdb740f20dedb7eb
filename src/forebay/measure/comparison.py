"""Whether runs B differ from runs A: for each metric the change, its interval and a verdict.

With several runs a side each run is one value, because what differs from run to run (the machine,
the order of arrivals) outweighs the noise within one; with one run a side only that noise is known,
and the result says so. Runs that alternated (A B A B ...) are compared in pairs: what drifts over
the hour then falls out.

The verdict is a test of equivalence (Schuirmann 1987), not one of "no difference found":

- same: the whole interval lies within the margin;
- better, worse: the whole interval lies on one side of no change, and not within the margin;
- undecided: everything else. More runs, or longer ones, narrow it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from forebay.measure.intervals import (
    EVERYTHING,
    RESAMPLES,
    Interval,
    interval_of_difference,
    interval_of_mean,
    interval_of_replicated_difference,
    interval_of_replicates,
)
from forebay.measure.margins import Margins
from forebay.measure.metrics import METRICS, MeasuredMetric
from forebay.measure.resampling import Replicates, resample
from forebay.measure.samples import Draws, Floats, RunSample

Verdict = Literal["better", "same", "worse", "undecided"]

_FEW_RUNS = 5  # from here on Student's t is less than half as wide again as with any number of runs


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricComparison:
    """One metric of runs A and B, in the metric's unit.

    Attributes:
        metric: which.
        a, b: its mean over the runs of a side (geometric, except for shares); NaN when a run has
            none.
        a_interval, b_interval: their 95 % intervals.
        change: b / a, or b - a for shares.
        interval: its 95 % interval.
        verdict: see the head of this module.
        note: why there is nothing to compare, else empty.
    """

    metric: MeasuredMetric
    a: float
    b: float
    a_interval: Interval
    b_interval: Interval
    change: float
    interval: Interval
    verdict: Verdict
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: infinity as a string, null where nothing was measured."""
        values = asdict(self) | {"metric": self.metric.name, "unit": self.metric.unit}
        values["change_is"] = "ratio" if self.metric.by_ratio else "difference"
        return {key: _plain(value) for key, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs A against runs B.

    Attributes:
        metrics: in the order of `METRICS`; one that no run has is left out.
        runs_a, runs_b: runs a side.
        paired: whether run i of A was set against run i of B.
        notes: what the intervals do not cover, in words.
    """

    metrics: tuple[MetricComparison, ...]
    runs_a: int
    runs_b: int
    paired: bool
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> MetricComparison:
        return {one.metric.name: one for one in self.metrics}[name]

    def with_verdict(self, verdict: Verdict) -> list[MetricComparison]:
        """The metrics that came out so."""
        return [one for one in self.metrics if one.verdict == verdict]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "runs": {"a": self.runs_a, "b": self.runs_b, "paired": self.paired},
            "notes": list(self.notes),
            "metrics": [one.as_dict() for one in self.metrics],
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Each metric of the runs of one side; its resamples when there is only one run."""

    values: dict[str, Floats]
    replicates: dict[str, Replicates]

    @classmethod
    def of(cls, runs: Sequence[RunSample], seed: int, resamples: int) -> _Side:
        once = [Draws.once(run) for run in runs]
        values = {m.name: np.array([m.statistic.under(d)[0] for d in once]) for m in METRICS}
        if len(runs) > 1:
            return cls(values, {})
        statistics = [metric.statistic for metric in METRICS]
        found = resample(runs[0], statistics, np.random.default_rng(seed), resamples)
        return cls(values, dict(zip(values, found, strict=True)))


def compare(
    a: Sequence[RunSample],
    b: Sequence[RunSample],
    rng: np.random.Generator,
    *,
    paired: bool = False,
    margins: Margins | None = None,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compares runs B with runs A.

    Args:
        a: what was; at least one run.
        b: what is.
        rng: draws the resamples of single runs; several runs need none.
        paired: set run i of A against run i of B: they alternated, or shared what makes runs vary.
        margins: what counts as no change.
        resamples: of each single run.

    Raises:
        ValueError: a side has no run, or ``paired`` and the numbers differ.
    """
    if not a or not b:
        raise ValueError("each side needs at least one run")
    if paired and len(a) != len(b):
        raise ValueError(f"paired runs come in equal numbers, not {len(a)} and {len(b)}")
    # One seed for both sides: exchanging them then turns every answer round exactly. The sides stay
    # independent, since every resample of A is set against every one of B.
    seed = int(rng.integers(2**62))
    sides = _Side.of(a, seed, resamples), _Side.of(b, seed, resamples)
    found = [_compare_metric(m, *sides, paired, margins or Margins()) for m in METRICS]
    return Comparison(
        metrics=tuple(one for one in found if one is not None),
        runs_a=len(a),
        runs_b=len(b),
        paired=paired,
        notes=tuple(_notes(len(a), len(b), paired)),
    )


def _compare_metric(
    metric: MeasuredMetric, a: _Side, b: _Side, paired: bool, margins: Margins
) -> MetricComparison | None:
    """None when no run has the metric."""
    in_a, in_b = metric.to_scale(a.values[metric.name]), metric.to_scale(b.values[metric.name])
    lacking = int(np.isnan(in_a).sum()), int(np.isnan(in_b).sum())
    if lacking == (len(in_a), len(in_b)):
        return None
    interval, note = EVERYTHING, ""
    if any(lacking):
        note = f"nothing measured in {lacking[0]} of the runs of A and {lacking[1]} of those of B"
    else:
        interval = _change(metric, a, b, paired)
    mean_a, mean_b = _mean(in_a), _mean(in_b)
    return MetricComparison(
        metric=metric,
        a=metric.from_scale(mean_a),
        b=metric.from_scale(mean_b),
        a_interval=_figure_interval(metric, a),
        b_interval=_figure_interval(metric, b),
        change=metric.from_scale(mean_b - mean_a),
        interval=_from_scale(metric, interval),
        verdict=_verdict(interval, margins.on_scale(metric), metric.lower_is_better),
        note=note,
    )


def _change(metric: MeasuredMetric, a: _Side, b: _Side, paired: bool) -> Interval:
    """The interval of B minus A on the metric's scale."""
    name = metric.name
    if a.replicates and b.replicates:
        return interval_of_replicated_difference(
            _scaled(metric, a.replicates[name]), _scaled(metric, b.replicates[name])
        )
    in_a, in_b = metric.to_scale(a.values[name]), metric.to_scale(b.values[name])
    if not paired:
        return interval_of_difference(in_a, in_b)
    with np.errstate(invalid="ignore"):
        return interval_of_mean(in_b - in_a)


def _figure_interval(metric: MeasuredMetric, side: _Side) -> Interval:
    """Of the metric itself on one side, in its unit."""
    values = metric.to_scale(side.values[metric.name])
    if np.isnan(values).any():
        found = EVERYTHING
    elif side.replicates:
        found = interval_of_replicates(_scaled(metric, side.replicates[metric.name]))
    else:
        found = interval_of_mean(values)
    return _from_scale(metric, found) if metric.by_ratio else found.clipped(0.0, 1.0)


def _verdict(interval: Interval, margin: float, lower_is_better: bool) -> Verdict:
    """Of a change on the metric's scale."""
    if -margin <= interval.low and interval.high <= margin:
        return "same"
    if interval.low > 0:
        return "worse" if lower_is_better else "better"
    if interval.high < 0:
        return "better" if lower_is_better else "worse"
    return "undecided"


def _notes(runs_a: int, runs_b: int, paired: bool) -> list[str]:
    if runs_a == runs_b == 1:
        return [
            "One run a side: the intervals cover the noise within a run, not that from run to run. "
            f"{_FEW_RUNS} runs a side would."
        ]
    if 1 in (runs_a, runs_b):
        single, other = ("A", "B") if runs_a == 1 else ("B", "A")
        return [f"{single} has one run: it is taken to vary from run to run as {other} does."]
    if min(runs_a, runs_b) < _FEW_RUNS:
        unit = "pairs" if paired else "runs a side"
        return [f"Intervals of fewer than {_FEW_RUNS} {unit} are wide."]
    return []


def _scaled(metric: MeasuredMetric, replicates: Replicates) -> Replicates:
    return Replicates(metric.to_scale(replicates.values), replicates.blocks, replicates.bounded)


def _from_scale(metric: MeasuredMetric, interval: Interval) -> Interval:
    return Interval(metric.from_scale(interval.low), metric.from_scale(interval.high))


def _mean(values: Floats) -> float:
    """NaN where infinities of both signs meet."""
    with np.errstate(invalid="ignore"):
        return float(values.mean())


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return [_plain(value["low"]), _plain(value["high"])]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)
