from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.measure import (
    METRICS,
    Comparison,
    GateError,
    Interval,
    MeasuredMetric,
    MetricComparison,
    parse_gate,
)
from forebay.measure.gates import Status, judge
from forebay.measure.intervals import EVERYTHING
from forebay.measure.metrics import metric_named

GATE = """\
# what a release may cost
- p99 TTFT not worse than 10 %
goodput not worse than 5%   # requests/s

- "shed not worse than 2 points"
p50 TPOT not above 80 ms
goodput not below 40 /s
Failures NOT above 1 %
"""


def found(name: str, change: Interval = EVERYTHING, b: Interval = EVERYTHING) -> MetricComparison:
    return MetricComparison(
        metric=metric_named(name), a=1.0, b=1.0, a_interval=EVERYTHING, b_interval=b,
        change=1.0, interval=change, verdict="undecided",
    )  # fmt: skip


def status(rule: str, measured: MetricComparison) -> Status:
    comparison = Comparison(metrics=(measured,), runs_a=5, runs_b=5, paired=False, notes=())
    (result,) = judge(parse_gate(rule), comparison)
    return result.status


def faults(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(GateError) as error:
        parse_gate(text)
    return [(one.line, one.message, one.hint) for one in error.value.faults]


def test_rules_are_read_from_peoples_words() -> None:
    rules = [(rule.line, rule.metric.name, rule.kind, rule.limit) for rule in parse_gate(GATE)]
    assert rules == [
        (2, "ttft_p99", "worse than", 0.1),
        (3, "goodput_per_s", "worse than", 0.05),
        (5, "shed_share", "worse than", 0.02),
        (6, "tpot_p50", "above", 0.08),
        (7, "goodput_per_s", "below", 40.0),
        (8, "failure_share", "above", 0.01),
    ]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "p99 TTTF not worse than 10 %",
            "no metric is called 'p99 TTTF'",
            "did you mean p99 TTFT?",
        ),
        ("p99 TTFT is fine", "'p99 TTFT is fine' is not a rule", "p99 TTFT not worse than 10 %"),
        ("p99 TTFT not worse than 10", "'10' is not an amount in %", "write 10 %"),
        ("shed not worse than 2 %", "'2 %' is not an amount in points", "write 2 points"),
        ("p99 TTFT not above 10 %", "'10 %' is not an amount in s", "write 10 s"),
        ("p99 TTFT not below 1 s", "is the better the lower", "write p99 TTFT not above 1 s"),
        ("goodput not above 9 /s", "is the better the higher", "write goodput not below 9 /s"),
        ("goodput not worse than 100 %", "goodput cannot fall by 100 %", "less than 100 %"),
    ],
)
def test_a_fault_has_line_message_and_way_out(text: str, message: str, hint: str) -> None:
    ((line, said, helped),) = faults(f"# gate\n{text}\n")
    assert line == 2
    assert message in said
    assert hint in helped


def test_every_fault_is_reported() -> None:
    assert [line for line, _, _ in faults("nonsense\ngoodput not worse than 5 %\nrubbish")] == [
        1,
        3,
    ]


@pytest.mark.parametrize("text", ["", "\n# only a comment\n"])
def test_a_gate_without_rules_is_refused(text: str) -> None:
    ((line, message, _),) = faults(text)
    assert (line, message) == (0, "no rule in it")


@given(st.text())
def test_any_text_is_rules_or_faults(text: str) -> None:
    said: Sequence[object] = ()
    try:
        said = parse_gate(text)
    except GateError as error:
        said = error.faults
    assert said


@given(st.sampled_from(METRICS), st.integers(0, 99))
def test_a_limit_on_a_change_is_read_back(metric: MeasuredMetric, limit: int) -> None:
    words, by_ratio = metric.words, metric.by_ratio
    (rule,) = parse_gate(f"{words} not worse than {limit} {'%' if by_ratio else 'points'}")
    assert rule.limit == pytest.approx(limit / 100)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1.02, 1.10, "pass"),
        (0.5, 1.0, "pass"),
        (1.02, 1.11, "undecided"),
        (1.10, 1.30, "undecided"),  # at the limit is within it
        (1.11, 1.30, "fail"),
        (math.inf, math.inf, "fail"),
        (-math.inf, math.inf, "undecided"),
    ],
)
def test_a_latency_may_grow_by_so_much(low: float, high: float, expected: str) -> None:
    measured = found("ttft_p99", Interval(low, high))
    assert status("p99 TTFT not worse than 10 %", measured) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.96, 1.2, "pass"), (0.90, 0.97, "undecided"), (0.90, 0.94, "fail"), (0.0, 0.0, "fail")],
)
def test_a_goodput_may_fall_by_so_much(low: float, high: float, expected: str) -> None:
    measured = found("goodput_per_s", Interval(low, high))
    assert status("goodput not worse than 5 %", measured) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-0.01, 0.02, "pass"), (0.01, 0.03, "undecided"), (0.021, 0.03, "fail")],
)
def test_a_share_may_grow_by_points(low: float, high: float, expected: str) -> None:
    measured = found("shed_share", Interval(low, high))
    assert status("shed not worse than 2 points", measured) == expected


@pytest.mark.parametrize(
    ("rule", "b", "expected"),
    [
        ("failures not above 1 %", Interval(0.0, 0.004), "pass"),
        ("failures not above 1 %", Interval(0.004, 0.02), "undecided"),
        ("failures not above 1 %", Interval(0.02, 0.03), "fail"),
        ("goodput not below 40 /s", Interval(41.0, 43.0), "pass"),
        ("goodput not below 40 /s", Interval(30.0, 39.0), "fail"),
    ],
)
def test_a_limit_of_its_own_judges_b_alone(rule: str, b: Interval, expected: str) -> None:
    name = rule.split(maxsplit=1)[0]
    assert status(rule, found(name, Interval(9.0, 9.0), b)) == expected


def test_only_a_strict_gate_stays_shut_when_undecided() -> None:
    answers: Mapping[str, tuple[bool, bool]] = {
        "pass": (True, True), "undecided": (True, False), "fail": (False, False)
    }  # fmt: skip
    for low, high in ((0.9, 1.0), (1.0, 1.2), (1.2, 1.3)):
        measured = found("ttft_p99", Interval(low, high))
        comparison = Comparison(metrics=(measured,), runs_a=5, runs_b=5, paired=False, notes=())
        (result,) = judge(parse_gate("p99 TTFT not worse than 10 %"), comparison)
        assert (result.holds(strict=False), result.holds(strict=True)) == answers[result.status]


def test_what_b_does_not_show_any_more_is_no_noise() -> None:
    """As where all of its requests failed."""
    gone = replace(found("ttft_p99"), b=math.nan)
    assert status("p99 TTFT not worse than 10 %", gone) == "fail"
    assert status("p99 TTFT not above 800 ms", gone) == "fail"
    assert status("p99 TTFT not worse than 10 %", replace(gone, a=math.nan)) == "undecided"


def test_what_was_not_measured_is_undecided() -> None:
    assert status("p99 ITL not worse than 10 %", found("ttft_p99")) == "undecided"
