"""Runs of a single server with a queue, whose latencies are as correlated as real ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forebay.measure import RequestRecord, RunSample, sample_run

RATE, LOAD = 50.0, 0.7
SLO_S = 0.1


def queue_records(
    rng: np.random.Generator, count: int, *, scale: float = 1.0, fails: float = 0.0
) -> list[RequestRecord]:
    """Poisson arrivals, exponential service (M/M/1) at a load of 0.7; `scale` stretches latency."""
    gaps = rng.exponential(1 / RATE, count)
    service = rng.exponential(LOAD / RATE, count)
    sent, free, made = 0.0, 0.0, []
    for index, (gap, work) in enumerate(zip(gaps.tolist(), service.tolist(), strict=True)):
        sent += gap
        free = max(free, sent) + work
        failed = fails > 0 and rng.random() < fails
        first = None if failed else sent + scale * (free - sent)
        last = None if first is None else first + scale * 10 * 0.002 * (1 + work)
        made.append(
            RequestRecord(
                index=index,
                intended_s=sent,
                sent_s=sent,
                ended_s=sent + 1.0 if last is None else last,
                status=0 if failed else 200,
                outcome="timeout" if failed else "ok",
                first_token_s=first,
                last_token_s=last,
                tokens_out=0 if failed else 11,
            )
        )
    return made


def queue_run(
    seed: int, count: int = 60, *, scale: float = 1.0, fails: float = 0.0, unit: float = 1.0
) -> RunSample:
    """One such run; its SLO stretches with its latencies. All times are told in `unit` seconds."""
    records = queue_records(np.random.default_rng(seed), count, scale=scale, fails=fails)
    told = [
        replace(
            record,
            **{
                name: getattr(record, name) * unit
                for name in ("intended_s", "sent_s", "ended_s", "first_token_s", "last_token_s")
                if getattr(record, name) is not None
            },
        )
        for record in records
    ]
    return sample_run(told, count / RATE * unit, SLO_S * scale * unit)
