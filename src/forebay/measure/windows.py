"""A run as a series of equal windows of time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forebay.measure.percentiles import percentiles
from forebay.measure.records import RequestRecord


@dataclass(frozen=True, slots=True)
class Window:
    """What was asked for between ``start_s`` and ``start_s + width_s``, and what became of it.

    Requests belong to the window of their intended send, so offered = good + late + shed + failed
    + left in each. Tokens belong to the window in which they arrived.

    Attributes:
        start_s, width_s: seconds.
        offered, admitted, shed, failed, good: requests.
        late: finished, but not within every SLO.
        left: cancelled by their clients, or in flight when the run was stopped.
        tokens: output tokens that arrived in the window.
        ttft_p50, ttft_p99: seconds.
    """

    start_s: float
    width_s: float
    offered: int
    admitted: int
    shed: int
    failed: int
    good: int
    late: int
    tokens: float
    ttft_p50: float | None
    ttft_p99: float | None
    left: int = 0


def windows(
    records: Sequence[RequestRecord],
    width_s: float,
    slo_ttft: float,
    slo_tpot: float | None = None,
    tail: Sequence[RequestRecord] = (),
) -> list[Window]:
    """Splits a run into windows of ``width_s`` from second 0 to its last event.

    Of the ``tail``, which a closed loop leaves in flight, only the tokens are counted.

    Raises:
        ValueError: when ``width_s`` is not above 0.
    """
    if not width_s > 0:
        raise ValueError(f"a window is wider than {width_s} s")
    groups: dict[int, list[RequestRecord]] = {}
    for record in records:
        groups.setdefault(max(0, math.floor(record.intended_s / width_s)), []).append(record)
    tokens = _tokens_per_window([*records, *tail], width_s)
    count = max([len(tokens), *(index + 1 for index in groups)])
    tokens = np.pad(tokens, (0, count - len(tokens)))
    return [
        _window(groups.get(i, []), i * width_s, width_s, float(tokens[i]), slo_ttft, slo_tpot)
        for i in range(count)
    ]


def _window(
    records: Sequence[RequestRecord],
    start_s: float,
    width_s: float,
    tokens: float,
    slo_ttft: float,
    slo_tpot: float | None,
) -> Window:
    finished = sum(r.outcome == "ok" for r in records)
    shed = sum(r.outcome == "shed" for r in records)
    failed = sum(r.failure for r in records)
    good = sum(r.is_good(slo_ttft, slo_tpot) for r in records)
    p50, p99 = percentiles([r.ttft for r in records if r.ttft is not None], (50, 99))
    return Window(
        start_s=start_s,
        width_s=width_s,
        offered=len(records),
        admitted=sum(r.admitted for r in records),
        shed=shed,
        failed=failed,
        good=good,
        late=finished - good,
        tokens=tokens,
        ttft_p50=p50,
        ttft_p99=p99,
        left=len(records) - finished - shed - failed,
    )


def _tokens_per_window(records: Sequence[RequestRecord], width_s: float) -> NDArray[np.float64]:
    """Tokens by arrival. A record's tokens are spread evenly over the arrivals it knows."""
    times, weights = [np.empty(0)], [np.empty(0)]
    for record in records:
        arrivals = _arrivals(record)
        times.append(arrivals)
        weights.append(np.full(len(arrivals), record.tokens_out / max(1, len(arrivals))))
    places = np.maximum(0, np.floor(np.concatenate(times) / width_s)).astype(np.int64)
    return np.bincount(places, np.concatenate(weights)).astype(np.float64)


def tokens_within(record: RequestRecord, start_s: float, end_s: float) -> float:
    """Of a request's tokens, those that came between two seconds of the run."""
    first, last = record.first_token_s, record.last_token_s
    if first is None or (start_s <= first and (first if last is None else last) < end_s):
        return float(record.tokens_out)
    arrivals = _arrivals(record)
    within = np.count_nonzero((arrivals >= start_s) & (arrivals < end_s))
    return record.tokens_out * float(within) / max(1, len(arrivals))


def _arrivals(record: RequestRecord) -> NDArray[np.float64]:
    """When its tokens came: as recorded, else evenly from the first to the last."""
    if record.token_times is not None and len(record.token_times):
        return np.asarray(record.token_times, dtype=np.float64)
    if record.first_token_s is None or record.tokens_out == 0:
        return np.empty(0)
    last = record.first_token_s if record.last_token_s is None else record.last_token_s
    return np.linspace(record.first_token_s, last, record.tokens_out)
