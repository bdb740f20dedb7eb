"""A comparison of runs as a reader wants it: cells of a table, and lines."""

from __future__ import annotations

import math

from forebay.measure import Comparison, Interval, MeasuredMetric, MetricComparison, RuleResult
from forebay.report.words import NONE, rate, seconds

COLUMNS = ("metric", "A", "B", "change", "95 % interval", "verdict")


def cells(one: MetricComparison) -> tuple[str, ...]:
    """A row under `COLUMNS`."""
    return (
        one.metric.words,
        figure(one.metric, one.a),
        figure(one.metric, one.b),
        change(one.metric, one.change),
        change_interval(one),
        one.verdict,
    )


def figure(metric: MeasuredMetric, value: float) -> str:
    """A metric's value with its unit."""
    if metric.unit == "s":
        return seconds(value)
    if metric.unit == "1/s":
        return NONE if math.isnan(value) else f"{rate(value)}/s"
    return NONE if math.isnan(value) else f"{100 * value:.2f} %"


def change(metric: MeasuredMetric, value: float) -> str:
    """A ratio as ``+4.2 %`` (from tenfold on as ``x 12``), a difference as ``+0.31 points``."""
    if math.isnan(value):
        return NONE
    if not metric.by_ratio:
        return _endless(value) or f"{100 * value:+.2f} points"
    return _endless(value) or (f"{100 * (value - 1):+.1f} %" if value < 10 else f"x {value:,.0f}")


def change_interval(one: MetricComparison) -> str:
    """The interval of the change, or why there is none."""
    return one.note or _interval(one.metric, one.interval)


def rule_line(result: RuleResult) -> str:
    """A gate's rule, what became of it, and why."""
    return f"{result.status:<9}  {result.rule.text}: {_grounds(result)}"


def headline(comparison: Comparison) -> str:
    """Which metrics are worse, or that none is."""
    worse = ", ".join(one.metric.words for one in comparison.with_verdict("worse"))
    return f"worse: {worse}" if worse else "no metric is shown to be worse"


def _grounds(result: RuleResult) -> str:
    found = result.found
    if found is None:
        return "not measured"
    if result.rule.kind == "worse than":
        return f"{change(found.metric, found.change)}, {change_interval(found)}"
    between = found.b_interval
    low, high = (figure(found.metric, end) for end in (between.low, between.high))
    return f"{figure(found.metric, found.b)}, {low} to {high}"


def _interval(metric: MeasuredMetric, interval: Interval) -> str:
    if _unknown(metric, interval):
        return "unknown"
    return f"{change(metric, interval.low)} to {change(metric, interval.high)}"


def _unknown(metric: MeasuredMetric, interval: Interval) -> bool:
    """Whether nothing at all is known of the change."""
    lowest = 0.0 if metric.by_ratio else -math.inf
    return interval.low == lowest and interval.high == math.inf


def _endless(value: float) -> str:
    if not math.isinf(value):
        return ""
    return "∞" if value > 0 else "-∞"
