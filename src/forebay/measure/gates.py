"""A gate: what a change may cost, in people's words, one rule a line.

    # comments and blank lines are skipped; a leading "-" makes the file a YAML list
    p99 TTFT not worse than 10 %
    goodput not worse than 5 %
    shed not worse than 2 points
    p99 TTFT not above 800 ms
    failures not above 1 %

"Not worse than" judges the change from A to B: a latency may grow by so much, a goodput fall by so
much, a share grow by so many points. "Not above" and "not below" judge B alone.

A rule fails when its whole 95 % interval lies beyond what is allowed, passes when the whole
interval lies within it, and is undecided when it straddles. An undecided rule does not fail unless
the gate is strict, wherever its point estimate lies: a single estimate beyond the limit is what
noise does every other time. Under a strict gate a rule holds only when it is shown to hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from forebay.measure.amounts import AmountError, change_units, figure_units, parse_amount
from forebay.measure.comparison import Comparison, MetricComparison
from forebay.measure.intervals import Interval
from forebay.measure.metrics import MeasuredMetric, UnknownMetricError, metric_named

Status = Literal["pass", "fail", "undecided"]
Kind = Literal["worse than", "above", "below"]

_RULE = re.compile(r"(.+?)\s+not\s+(worse\s+than|above|below)\s+(.+)", re.IGNORECASE)
_EXAMPLE = 'write a rule such as "p99 TTFT not worse than 10 %"'


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a gate.

    Attributes:
        line: its number, from 1.
        text: as written.
        metric: what it is about.
        kind: "worse than" limits the change from A to B, the others limit B.
        limit: a share of A (0.1 is 10 %) or a difference of shares; else the metric's unit.
    """

    line: int
    text: str
    metric: MeasuredMetric
    kind: Kind
    limit: float


@dataclass(frozen=True, slots=True)
class RuleResult:
    """What became of a rule; ``found`` is None when the metric was not measured."""

    rule: Rule
    status: Status
    found: MetricComparison | None

    def holds(self, *, strict: bool) -> bool:
        """Whether the gate may open."""
        return self.status == "pass" or (self.status == "undecided" and not strict)


@dataclass(frozen=True, slots=True)
class GateFault:
    """What is wrong with a line (0: with the whole), and what to write."""

    line: int
    message: str
    hint: str

    def __str__(self) -> str:
        said = f"{self.message}; {self.hint}"
        return f"line {self.line}: {said}" if self.line else said


class GateError(ValueError):
    """A gate was refused. ``faults`` holds every fault found, in line order."""

    def __init__(self, faults: Iterable[GateFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def parse_gate(text: str) -> list[Rule]:
    """The rules of a gate.

    Raises:
        GateError: a line is no rule, or there is none.
    """
    rules: list[Rule] = []
    faults: list[GateFault] = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = _bare(line)
        if not words:
            continue
        try:
            rules.append(_parse_rule(number, words))
        except GateError as error:
            faults += error.faults
    if not rules and not faults:
        faults.append(GateFault(0, "no rule in it", _EXAMPLE))
    if faults:
        raise GateError(faults)
    return rules


def judge(rules: Iterable[Rule], comparison: Comparison) -> list[RuleResult]:
    """Each rule against what was found."""
    found = {one.metric.name: one for one in comparison.metrics}
    return [_judge(rule, found.get(rule.metric.name)) for rule in rules]


def _bare(line: str) -> str:
    """Without comment, list dash and quotes."""
    return line.partition("#")[0].strip().removeprefix("- ").strip().strip("\"'").strip()


def _parse_rule(number: int, words: str) -> Rule:
    match = _RULE.fullmatch(words)
    if match is None:
        raise GateError([GateFault(number, f"{words!r} is not a rule", _EXAMPLE)])
    try:
        metric = metric_named(match[1])
        kind, limit = _kind(match[2]), _limit(metric, _kind(match[2]), match[3])
    except (UnknownMetricError, AmountError) as error:
        raise GateError([GateFault(number, str(error), error.hint)]) from None
    return Rule(number, words, metric, kind, limit)


def _kind(words: str) -> Kind:
    folded = words.lower()
    return "worse than" if folded.startswith("worse") else "above" if folded == "above" else "below"


def _limit(metric: MeasuredMetric, kind: Kind, text: str) -> float:
    """The limit of a rule.

    Raises:
        AmountError: it is not an amount, or makes no sense for the metric.
    """
    better = "above" if metric.lower_is_better else "below"
    if kind != "worse than":
        if kind != better:
            raise AmountError(
                f"{metric.words} is the better the {'lower' if better == 'above' else 'higher'}",
                f"write {metric.words} not {better} {text}",
            )
        return parse_amount(text, figure_units(metric))
    limit = parse_amount(text, change_units(metric))
    if not metric.lower_is_better and limit >= 1:
        raise AmountError(f"{metric.words} cannot fall by {text}", "write less than 100 %")
    return limit


def _judge(rule: Rule, found: MetricComparison | None) -> RuleResult:
    if found is None:
        return RuleResult(rule, "undecided", None)
    if math.isnan(found.b) and not math.isnan(found.a):
        # What was measured before and is not any more is no noise: most of it failed, perhaps.
        return RuleResult(rule, "fail", found)
    interval = found.interval if rule.kind == "worse than" else found.b_interval
    return RuleResult(rule, _status(interval, _bound(rule), rule.metric.lower_is_better), found)


def _bound(rule: Rule) -> float:
    """The limit as a bound on the change or on B."""
    if rule.kind != "worse than" or not rule.metric.by_ratio:
        return rule.limit
    return 1 + rule.limit if rule.metric.lower_is_better else 1 - rule.limit


def _status(interval: Interval, bound: float, lower_is_better: bool) -> Status:
    best, worst = interval.low, interval.high
    if not lower_is_better:
        best, worst, bound = -interval.high, -interval.low, -bound
    if worst <= bound:
        return "pass"
    return "fail" if best > bound else "undecided"
