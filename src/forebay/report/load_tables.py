"""A load test's tables: latencies, stages, kinds of request, outcomes, the slowest requests."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from forebay.measure import OUTCOMES, Outcome, RequestRecord
from forebay.report.load_columns import Columns, grouped
from forebay.report.load_data import LoadReport
from forebay.report.load_figures import Latency, Part, latencies, of_stage, part
from forebay.report.load_time import stage_names
from forebay.report.markup import Cell, table
from forebay.report.words import NONE, between, plain, portion, rate, seconds

SLOWEST = 20
_MOST_GROUPS = 20
_MOST_REASONS = 3
_LONGEST_REASON = 160
_LATENCY_HEADS = ("TTFT p50", "TTFT p99", "TPOT p50", "TPOT p99", "E2E p99")
_GROUPINGS: tuple[tuple[str, Callable[[RequestRecord], str]], ...] = (
    ("Kind", lambda record: record.kind),
    ("Class", lambda record: record.class_name),
    ("Tenant", lambda record: record.tenant),
)
_MEANINGS: dict[Outcome, str] = {
    "ok": "finished",
    "shed": "refused for load",
    "failed": "answered with another HTTP error",
    "stream_error": "an error inside a stream already answered with 200",
    "cut": "the response stopped half-way",
    "dropped": "the connection closed before any answer",
    "malformed": "not HTTP, or not what was asked for",
    "timeout": "not ended in time",
    "refused_connection": "the other side took no connection",
    "no_socket": "the client's machine gave no socket",
    "cancelled": "the client left, as its workload says",
    "stopped": "the run was ended before",
}


def latency_table(report: LoadReport, columns: Columns) -> str:
    """Percentiles of TTFT, TPOT, ITL and E2E, with their intervals where they are known."""
    heads = ("Latency", "p50", "p95", "p99", "adjusted p99", "values")
    rows = []
    for latency in latencies(report, columns):
        cells = [_measured(report, latency, name) for name in ("p50", "p95", "p99", "adjusted_p99")]
        rows.append((latency.name.upper(), [*cells, _counted(latency)]))
    return table("Latency from the intended send", heads, rows)


def stage_table(report: LoadReport, columns: Columns) -> str:
    """A row per stage; "" when there are none."""
    if not report.stages:
        return ""
    heads = ("Stage", "Seconds", "Offered /s", "Admitted /s", "Shed /s", "Failed /s", "Good /s")
    rows = []
    for stage in report.stages:
        figures = part(stage_names(stage)[0], of_stage(stage, columns))
        lasted = stage.end_s - stage.start_s
        counts = (figures.offered, figures.admitted, figures.shed, figures.failed, figures.good)
        rates = [Cell(rate(count / lasted) if lasted > 0 else NONE) for count in counts]
        when = Cell(f"{stage.start_s:g}–{stage.end_s:g}")
        rows.append((figures.name, [when, *rates, *_latency_cells(figures)]))
    return table("By stage", (*heads, *_LATENCY_HEADS), rows)


def group_tables(report: LoadReport, columns: Columns) -> str:
    """A table for each of kind, class and tenant of which the run had more than one."""
    tables = []
    for title, name in _GROUPINGS:
        names, codes = grouped(report.records, name)
        if len(names) > 1:
            shown = [part(names[n] or "(none)", columns.pick(codes == n)) for n in _first(names)]
            rest = codes >= _MOST_GROUPS
            if np.any(rest):
                label = f"{len(names) - _MOST_GROUPS} others"
                shown.append(part(label, columns.pick(rest)))
            tables.append(_group_table(title, shown))
    return "".join(tables)


def outcome_table(report: LoadReport, columns: Columns) -> str:
    """What became of the requests: the rows add up to what was offered."""
    counts = np.bincount(columns.outcome, minlength=len(OUTCOMES)).tolist()
    reasons = _reasons(report.records)
    rows = []
    for outcome, count in zip(OUTCOMES, counts, strict=True):
        if count:
            figures = [Cell(f"{count:,}"), Cell(portion(count, len(columns)))]
            said = (_MEANINGS[outcome], reasons.get(outcome, ""))
            prose = [Cell(text, prose=True) for text in said]
            rows.append((outcome, [*figures, *prose]))
    heads = ("Outcome", "Requests", "Share", "Meaning", "Most frequent reasons")
    offered = len(columns)
    total = [Cell(f"{offered:,}"), Cell(portion(offered, offered)), Cell(""), Cell("")]
    return table("Outcomes", heads, rows, ("offered", total))


def slowest_table(report: LoadReport) -> str:
    """The requests with the longest E2E, whatever became of them."""
    heads = (
        "Request", "At (s)", "Kind", "Prompt tokens", "Output tokens", "TTFT", "E2E", "Outcome",
        "Reason", "Attempts",
    )  # fmt: skip
    slowest = heapq.nlargest(SLOWEST, report.records, key=lambda record: record.e2e)
    rows = [(f"#{record.index}", _slow_cells(record)) for record in slowest]
    return table(f"The {len(rows)} slowest requests by E2E", heads, rows)


def _slow_cells(record: RequestRecord) -> list[Cell]:
    return [
        Cell(f"{record.intended_s:.2f}"),
        Cell(record.kind or NONE, prose=True),
        Cell(f"{record.prompt_tokens:,}"),
        Cell(f"{record.tokens_out:,}"),
        Cell(seconds(record.ttft)),
        Cell(seconds(record.e2e)),
        Cell(record.outcome, prose=True),
        Cell(_cut(record.reason), prose=True),
        Cell(f"{record.attempts}"),
    ]


def _group_table(title: str, parts: Sequence[Part]) -> str:
    heads = (title, "Offered", "Admitted", "Shed", "Failed", "Good", *_LATENCY_HEADS)
    rows = []
    for figures in parts:
        counts = (figures.admitted, figures.shed, figures.failed, figures.good)
        shares = [Cell(portion(count, figures.offered)) for count in counts]
        cells = [Cell(f"{figures.offered:,}"), *shares, *_latency_cells(figures)]
        rows.append((figures.name, cells))
    return table(f"By {title.lower()}", heads, rows)


def _first(names: Sequence[str]) -> range:
    return range(min(len(names), _MOST_GROUPS))


def _latency_cells(figures: Part) -> list[Cell]:
    values = (
        figures.ttft_p50,
        figures.ttft_p99,
        figures.tpot_p50,
        figures.tpot_p99,
        figures.e2e_p99,
    )
    return [Cell(seconds(value)) for value in values]


def _counted(latency: Latency) -> Cell:
    note = f"of 1 request in {latency.every}" if latency.every > 1 else ""
    return Cell(f"{latency.count:,}", note)


def _measured(report: LoadReport, latency: Latency, name: str) -> Cell:
    interval = report.intervals.get(f"{latency.name}_{name}")
    note = "" if interval is None else between(*interval, seconds)
    return Cell(seconds(getattr(latency, name)), note)


def _reasons(records: Sequence[RequestRecord]) -> dict[Outcome, str]:
    """The most frequent reasons of each outcome, with their counts."""
    counted: dict[Outcome, Counter[str]] = {}
    for record in records:
        if record.reason:
            counted.setdefault(record.outcome, Counter())[record.reason] += 1
    return {
        outcome: "; ".join(
            f"{_cut(reason)} ({count:,})" for reason, count in reasons.most_common(_MOST_REASONS)
        )
        for outcome, reasons in counted.items()
    }


def _cut(reason: str) -> str:
    return plain(reason, _LONGEST_REASON)
