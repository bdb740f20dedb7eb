"""A demo run for the page's tests, drawn from a queue whose numbers make sense."""

from __future__ import annotations

from typing import Any

import numpy as np

from forebay.measure import RequestRecord, summarise
from forebay.measure.windows import windows
from forebay.report import ClientNotes, DemoData, DemoStage, Sample, ServerPoint
from forebay.workload import Hold, Poisson, RateCurve
from forebay.workload.arrivals import arrivals

CAPACITY = 40.0
SLO_S = 1.0
FACTORS = (0.5, 1.0, 3.0, 0.5)
STAGE_S = 20.0


def records(seed: int = 0) -> list[RequestRecord]:
    """Requests served one after another at about the capacity, shed beyond 0.75 s of backlog."""
    rng = np.random.default_rng(seed)
    curve = RateCurve(tuple(Hold(factor * CAPACITY, STAGE_S) for factor in FACTORS))
    free_s, made = 0.0, []
    for index, at in enumerate(arrivals(curve, Poisson(), rng).tolist()):
        common: dict[str, Any] = {"index": index, "intended_s": at, "sent_s": at + 0.0008}
        wait = max(0.0, free_s - at)
        if wait > 0.75:
            ended = at + rng.lognormal(-4.8, 0.6)
            made.append(RequestRecord(**common, ended_s=ended, status=429, outcome="shed"))
            continue
        free_s = max(free_s, at) + rng.lognormal(np.log(0.9 / CAPACITY), 0.3)
        first = at + wait + rng.lognormal(-3.4, 0.45)
        last = first + 47 * rng.lognormal(-3.6, 0.2)
        made.append(
            RequestRecord(
                **common, first_token_s=first, last_token_s=last, ended_s=last, status=200,
                outcome="failed" if rng.random() < 0.002 else "ok", tokens_out=48,
            )
        )  # fmt: skip
    return made


def demo_data(**changes: Any) -> DemoData:
    run = records()
    values: dict[str, Any] = {
        "title": "A launch at three times the capacity",
        "model": "demo (5 M parameters)",
        "hardware": "2 CPU cores, 24 GB memory",
        "workload": "180 tokens in, 48 out, no prompt repeated",
        "slo_ttft_s": SLO_S,
        "capacity_rps": CAPACITY,
        "stages": [stage(run, number) for number in range(len(FACTORS))],
        "windows": windows(run, 1.0, SLO_S),
        "samples": [Sample(r.intended_s, r.ttft, r.outcome) for r in run],
        "server": server(run),
        "client": ClientNotes(0.0016, True, "", True, "client lag p99 1.6 ms is within 20 ms"),
        "chat": ("Tell me about the river.", "The river ran down to the old town, and the men"),
        "footer": "Forebay 0.1.0, Ray 2.60.0, vLLM 0.29.0, made by: make demo",
    }
    return DemoData(**(values | changes))


def stage(run: list[RequestRecord], number: int) -> DemoStage:
    start, end = number * STAGE_S, (number + 1) * STAGE_S
    part = [record for record in run if start <= record.intended_s < end]
    return DemoStage(FACTORS[number], start, end, summarise(part, SLO_S, None, STAGE_S))


def server(run: list[RequestRecord]) -> list[ServerPoint]:
    points = []
    for t in np.arange(0.5, STAGE_S * len(FACTORS), 0.5).tolist():
        known = [r for r in run if r.first_token_s is not None and r.intended_s <= t < r.ended_s]
        queued = sum(180 for r in known if (r.first_token_s or 0) > t)
        running = sum((r.first_token_s or 0) <= t for r in known)
        points.append(ServerPoint(t, queued, running, running * 1000 / 28))
    return points
