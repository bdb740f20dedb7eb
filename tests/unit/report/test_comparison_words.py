from __future__ import annotations

import math

import pytest

from forebay.measure import Comparison, Interval, MetricComparison, parse_gate
from forebay.measure.comparison import Verdict
from forebay.measure.gates import judge
from forebay.measure.intervals import EVERYTHING
from forebay.measure.metrics import metric_named
from forebay.report import cells, headline, rule_line


def found(
    words: str, a: float, b: float, change: float, interval: Interval, verdict: Verdict = "worse",
    note: str = "",
) -> MetricComparison:  # fmt: skip
    return MetricComparison(
        metric=metric_named(words), a=a, b=b, a_interval=EVERYTHING, b_interval=Interval(b, 2 * b),
        change=change, interval=interval, verdict=verdict, note=note,
    )  # fmt: skip


SLOWER = found("p99 TTFT", 0.2, 0.25, 1.25, Interval(1.18, 1.33))


@pytest.mark.parametrize(
    ("one", "row"),
    [
        (SLOWER, ("p99 TTFT", "200 ms", "250 ms", "+25.0 %", "+18.0 % to +33.0 %", "worse")),
        (
            found("goodput", 40, 20, 0.5, Interval(0.4, 0.6)),
            ("goodput", "40.0/s", "20.0/s", "-50.0 %", "-60.0 % to -40.0 %", "worse"),
        ),
        (
            found("shed", 0.0, 0.031, 0.031, Interval(-0.001, 0.063), "undecided"),
            ("shed", "0.00 %", "3.10 %", "+3.10 points", "-0.10 points to +6.30 points",
             "undecided"),
        ),
        (
            found("p99 TTFT", 0.2, 5.0, 25.0, Interval(20.0, math.inf)),
            ("p99 TTFT", "200 ms", "5.00 s", "x 25", "x 20 to ∞", "worse"),
        ),
        (
            found("p99 TTFT", math.inf, math.inf, math.nan, Interval(0, math.inf), "undecided"),
            ("p99 TTFT", "∞", "∞", "–", "unknown", "undecided"),
        ),
        (
            found("p99 TTFT", math.nan, 0.1, math.nan, Interval(0, math.inf), "undecided", "none"),
            ("p99 TTFT", "–", "100 ms", "–", "none", "undecided"),
        ),
    ],
)  # fmt: skip
def test_a_row_says_what_changed(one: MetricComparison, row: tuple[str, ...]) -> None:
    assert cells(one) == row


def comparison(*metrics: MetricComparison) -> Comparison:
    return Comparison(metrics=metrics, runs_a=5, runs_b=5, paired=False, notes=())


def test_the_headline_names_what_is_worse() -> None:
    shed = found("shed", 0.0, 0.0, 0.0, Interval(0, 0), "same")
    assert headline(comparison(SLOWER, shed)) == "worse: p99 TTFT"
    assert headline(comparison(shed)) == "no metric is shown to be worse"


@pytest.mark.parametrize(
    ("rule", "line"),
    [
        (
            "p99 TTFT not worse than 10 %",
            "fail       p99 TTFT not worse than 10 %: +25.0 %, +18.0 % to +33.0 %",
        ),
        (
            "p99 TTFT not above 300 ms",
            "undecided  p99 TTFT not above 300 ms: 250 ms, 250 ms to 500 ms",
        ),
        ("p99 ITL not above 9 ms", "undecided  p99 ITL not above 9 ms: not measured"),
    ],
)
def test_a_rule_is_shown_with_its_grounds(rule: str, line: str) -> None:
    (result,) = judge(parse_gate(rule), comparison(SLOWER))
    assert rule_line(result) == line
