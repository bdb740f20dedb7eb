"""The demo's steps: one chat, a quick capacity, four stages of load, a table and a page."""

from __future__ import annotations

import json
import os
import platform as machine
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from forebay import __version__
from forebay.load.runner import Progress, run_worker
from forebay.measure.percentiles import percentile
from forebay.measure.records import RequestRecord
from forebay.measure.summary import summarise
from forebay.measure.windows import windows
from forebay.observability import catalogue
from forebay.report.demo_data import ClientNotes, DemoData, DemoStage, Sample, ServerPoint

if TYPE_CHECKING:
    from forebay.serving.platform import Platform

FACTORS = (0.5, 1.0, 3.0, 0.5)
STAGE_S = 20.0
PROMPT_TOKENS, OUTPUT_TOKENS = 180, 48
_WARM_S, _CAPACITY_S = 4.0, 10.0
# An open loop's arrivals come in clumps: of what a full engine turns out, this share can be
# offered and still be served in time. The demo's own figure, not a promise: see benchmarks/.
_SUSTAINABLE = 0.85
_MAX_LAG_S = 0.020
QUESTION = "What does river mean?"

Say = Callable[[str], None]
Tick = Callable[[Progress], None]


def run_demo(platform: Platform, say: Say, tick: Tick) -> DemoData:
    """Run every step against a platform that is ready.

    Args:
        platform: the running service.
        say: takes a line of text for the user.
        tick: called about once a second while the stages run.
    """
    answer = ask(platform)
    say(f'  "{QUESTION}"\n  "{answer}"\n')
    capacity = measure_capacity(platform)
    say(
        f"capacity: about {capacity:.0f} requests/s of {PROMPT_TOKENS} tokens in and "
        f"{OUTPUT_TOKENS} out\n"
    )
    records, client, server = offer(platform, capacity, tick)
    return gather(platform, capacity, records, client, server, answer)


def ask(platform: Platform) -> str:
    """One chat answer."""
    body = {
        "model": platform.spec.model.id,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": 40,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{platform.url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        choice = json.load(response)["choices"][0]
    return str(choice["message"]["content"]).strip()


def plan(platform: Platform, **more: Any) -> dict[str, Any]:
    """A load plan for the service (see `forebay.load.spec`)."""
    return {
        "url": platform.url.removesuffix("/v1"),
        "model": platform.spec.model.id,
        "prompt_tokens": PROMPT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        "slo_ttft_s": platform.spec.slo.ttft_p99,
        "cores": sorted(platform.spare_cores) or None,  # not those that the model computes on
        **more,
    }


def measure_capacity(platform: Platform) -> float:
    """Requests/s that the service is taken to sustain: a share of what a full engine turns out."""
    clients = int(platform.spec.model.engine_args.get("max_num_seqs", 64))
    closed = {"mode": "closed", "clients": clients}
    run_worker(plan(platform, **closed, duration_s=_WARM_S, seed=1))
    full = run_worker(plan(platform, **closed, duration_s=_CAPACITY_S, seed=2))
    return float(full.summary["goodput_per_s"]) * _SUSTAINABLE


def offer(
    platform: Platform, capacity: float, tick: Tick
) -> tuple[list[RequestRecord], dict[str, Any], list[ServerPoint]]:
    """Offer the stages; returns (records, the client's notes, the server's series)."""
    points: list[ServerPoint] = []
    before: dict[str, float] = {}

    def watch(progress: Progress) -> None:
        if (point := _server_point(platform, progress.t, before)) is not None:
            points.append(point)
        tick(progress)

    stages = [[factor * capacity, STAGE_S] for factor in FACTORS]
    done = run_worker(plan(platform, stages=stages, seed=3), watch)
    return done.records, done.client, points


def _server_point(platform: Platform, t: float, before: dict[str, float]) -> ServerPoint | None:
    """The service's own word; None when the routers cannot be asked just now."""
    try:
        fleet = platform.fleet()
    except Exception:  # Ray raises many kinds; a gap in a chart is no reason to stop a demo
        return None
    total = {
        metric: sum(float(replica[metric.name]) for replica in fleet)
        for metric in (catalogue.QUEUED_TOKENS, catalogue.RUNNING, catalogue.OUTPUT_TOKENS)
    }
    now, tokens = time.monotonic(), total[catalogue.OUTPUT_TOKENS]
    rate = (tokens - before["tokens"]) / (now - before["at"]) if before else None
    before.update(tokens=tokens, at=now)
    return ServerPoint(t, total[catalogue.QUEUED_TOKENS], total[catalogue.RUNNING], rate)


def gather(
    platform: Platform,
    capacity: float,
    records: list[RequestRecord],
    client: dict[str, Any],
    server: list[ServerPoint],
    answer: str,
) -> DemoData:
    """Everything that the table and the page show."""
    spec = platform.spec
    lag = percentile([record.client_lag for record in records], 99)
    valid = lag is not None and lag <= _MAX_LAG_S
    return DemoData(
        title="Forebay demo",
        model=spec.model.id,
        hardware=f"{machine.machine()}, {os.cpu_count()} cores",
        workload=f"{PROMPT_TOKENS} tokens in, {OUTPUT_TOKENS} out, no prompt twice, Poisson",
        slo_ttft_s=spec.slo.ttft_p99,
        capacity_rps=capacity,
        stages=_stages(records, spec.slo.ttft_p99),
        windows=windows(records, 1.0, spec.slo.ttft_p99),
        samples=[Sample(r.intended_s, r.ttft, r.outcome) for r in records],
        server=server,
        client=ClientNotes(
            lag,
            bool(client["realtime"]),
            str(client["realtime_reason"]),
            valid,
            "" if valid else f"the client sent more than {_MAX_LAG_S * 1e3:.0f} ms late at p99",
        ),
        chat=(QUESTION, answer),
        footer=f"forebay {__version__}, {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
    )


def _stages(records: list[RequestRecord], slo_s: float) -> list[DemoStage]:
    stages = []
    for index, factor in enumerate(FACTORS):
        start, end = index * STAGE_S, (index + 1) * STAGE_S
        mine = [record for record in records if start <= record.intended_s < end]
        summary = summarise(mine, slo_s, None, STAGE_S)
        arrived = sum(w.tokens for w in windows(records, STAGE_S, slo_s) if w.start_s == start)
        stages.append(
            DemoStage(factor, start, end, replace(summary, tokens_per_s=arrived / STAGE_S))
        )
    return stages
