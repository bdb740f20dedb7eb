"""Real runs, as tools/record_runs.py stored them, and shifts planted in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from forebay.measure import OUTCOMES, RequestRecord, RunSample, sample_run
from forebay.measure.samples import Floats

STORED = Path(__file__).parent / "data" / "runs.npz"
SLO_S = 1.0
Records = Sequence[RequestRecord]


@cache
def stored_records() -> tuple[Records, ...]:
    """The requests of each run."""
    with np.load(STORED) as stored:
        columns = {name: stored[name].tolist() for name in stored.files}
    rows = [
        _record(index, columns["outcomes"][outcome], *rest)
        for index, (outcome, *rest) in enumerate(
            zip(
                *(
                    columns[name]
                    for name in ("outcome", "intended_s", "ttft", "tpot", "e2e", "tokens")
                ),
                strict=True,
            )
        )
    ]
    ends = np.cumsum(columns["requests"]).tolist()
    return tuple(
        rows[end - count : end] for end, count in zip(ends, columns["requests"], strict=True)
    )


@cache
def duration_s() -> float:
    """Seconds that each run offered requests."""
    with np.load(STORED) as stored:
        return float(stored["duration_s"])


def as_sample(records: Records) -> RunSample:
    return sample_run(records, duration_s(), SLO_S)


@cache
def stored_runs() -> tuple[RunSample, ...]:
    return tuple(as_sample(records) for records in stored_records())


def slower(records: Records, factor: float) -> list[RequestRecord]:
    """Every TTFT `factor` times as long."""
    return _with_ttft(records, lambda ttft: ttft * factor)


def heavier_tail(records: Records, factor: float) -> list[RequestRecord]:
    """From the p98 on, TTFTs `factor` times as long; up to the p90 as they were."""

    def stretch(ttft: Floats) -> Floats:
        rank = np.argsort(np.argsort(ttft, kind="stable")) / max(1, len(ttft) - 1)
        return ttft * (1 + (factor - 1) * np.clip((rank - 0.9) / 0.08, 0, 1))

    return _with_ttft(records, stretch)


def _with_ttft(records: Records, change: Callable[[Floats], Floats]) -> list[RequestRecord]:
    """The run with other first tokens; whatever came after them is as much later."""
    answered = [record for record in records if record.ttft is not None]
    old = np.array([record.ttft for record in answered], dtype=np.float64)
    rest = [record for record in records if record.ttft is None]
    return rest + [
        _later(record, seconds)
        for record, seconds in zip(answered, (change(old) - old).tolist(), strict=True)
    ]


def _later(record: RequestRecord, seconds: float) -> RequestRecord:
    assert record.first_token_s is not None
    last = record.last_token_s
    return replace(
        record,
        first_token_s=record.first_token_s + seconds,
        last_token_s=None if last is None else last + seconds,
        ended_s=record.ended_s + seconds,
    )


def _record(
    index: int, outcome: str, intended: float, ttft: float, tpot: float, e2e: float, tokens: int
) -> RequestRecord:
    assert outcome in OUTCOMES
    first = None if np.isnan(ttft) else intended + ttft
    return RequestRecord(
        index=index,
        intended_s=intended,
        sent_s=intended,
        ended_s=intended + e2e,
        status=200 if outcome == "ok" else 0,
        outcome=outcome,
        first_token_s=first,
        last_token_s=None if first is None or np.isnan(tpot) else first + tpot * (tokens - 1),
        tokens_out=tokens,
    )
