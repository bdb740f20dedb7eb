"""The figures of a load test: of all of it, and of any part of its requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forebay.measure import RequestRecord, adjusted_percentile, token_gaps, weighted_percentiles
from forebay.report.load_columns import Columns, quantiles
from forebay.report.load_data import LoadReport, LoadStage

# Gaps and their weights are sorted in 16 bytes each; a p99 of so many still rests on 20,000 gaps.
_MOST_GAPS = 2_000_000


@dataclass(frozen=True, slots=True)
class Latency:
    """One latency's percentiles in seconds.

    Attributes:
        name: as in `LoadReport.intervals`.
        count: values measured.
        p50, p95, p99: of them.
        adjusted_p99: with every failure as +infinity; None where that is not defined.
        every: 1, or k where only each k-th request was looked at.
    """

    name: str
    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    adjusted_p99: float | None = None
    every: int = 1


@dataclass(frozen=True, slots=True)
class Part:
    """A stage, or the requests of one kind, class or tenant. Latencies are seconds."""

    name: str
    offered: int
    admitted: int
    shed: int
    failed: int
    good: int
    ttft_p50: float | None
    ttft_p99: float | None
    tpot_p50: float | None
    tpot_p99: float | None
    e2e_p99: float | None


def latencies(report: LoadReport, columns: Columns) -> list[Latency]:
    """TTFT of all that got a first token, TPOT and ITL of two tokens or more, E2E of the finished.

    Adjusted percentiles leave out what was shed, or left by its client.
    """
    ended, failures = columns.pick(columns.finished), columns.count("failed")
    return [
        _latency("ttft", columns.ttft, ended.ttft, failures),
        _latency("tpot", columns.tpot, ended.tpot, failures),
        _itl(report.records),
        _latency("e2e", ended.e2e, ended.e2e, failures),
    ]


def part(name: str, columns: Columns) -> Part:
    """Counts and percentiles of some requests."""
    ttft_p50, ttft_p99 = quantiles(columns.ttft, (50, 99))
    tpot_p50, tpot_p99 = quantiles(columns.tpot, (50, 99))
    return Part(
        name=name,
        offered=len(columns),
        admitted=int(np.count_nonzero(columns.admitted)),
        shed=columns.count("shed"),
        failed=columns.count("failed"),
        good=columns.count("good"),
        ttft_p50=ttft_p50,
        ttft_p99=ttft_p99,
        tpot_p50=tpot_p50,
        tpot_p99=tpot_p99,
        e2e_p99=quantiles(columns.e2e[columns.finished], (99,))[0],
    )


def of_stage(stage: LoadStage, columns: Columns) -> Columns:
    """The requests that were meant to be sent in a stage."""
    return columns.pick((columns.at >= stage.start_s) & (columns.at < stage.end_s))


def _latency(
    name: str, measured: NDArray[np.float64], of_finished: NDArray[np.float64], failures: int
) -> Latency:
    p50, p95, p99 = quantiles(measured, (50, 95, 99))
    kept = of_finished[~np.isnan(of_finished)].tolist()
    count = int(np.count_nonzero(~np.isnan(measured)))
    return Latency(name, count, p50, p95, p99, adjusted_percentile(kept, failures, 99))


def _itl(records: Sequence[RequestRecord]) -> Latency:
    """Of the gaps of every request, or where there are millions, of every k-th request."""
    events = sum(len(r.token_times) for r in records if r.token_times is not None)
    every = 1 + events // _MOST_GAPS
    gaps, weights = token_gaps(records[::every])
    p50, p95, p99 = weighted_percentiles(gaps, weights, (50, 95, 99))
    return Latency("itl", len(gaps), p50, p95, p99, every=every)
