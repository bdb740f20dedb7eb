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
from forebay.load.client import open_directly
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun, run_load
from forebay.load.run.runner import Progress
from forebay.measure import RequestRecord, summarise, tokens_within
from forebay.measure.windows import windows
from forebay.observability import catalogue
from forebay.policies.request import INTERACTIVE
from forebay.report import ClientNotes, DemoData, DemoStage, Sample, ServerPoint
from forebay.spec.files import format_seconds
from forebay.spec.workload import fixed_workload

if TYPE_CHECKING:
    from forebay.serving.cluster import Platform

FACTORS = (0.5, 1.0, 3.0, 0.5)
STAGE_S = 20.0
PROMPT_TOKENS, OUTPUT_TOKENS = 180, 48
_WARM_S, _CAPACITY_S = 4.0, 10.0
_MOST_PROBES, _LEAST_PER_S = 5, 2.0
_FILLED = 0.8  # of what is offered, less than which says that it was more than can be done
# An open loop's arrivals come in clumps: of what a full engine turns out, this share can be
# offered and still be served in time. The demo's own figure, not a promise: see benchmarks/.
_SUSTAINABLE = 0.85
TIMEOUT_S = 600.0  # of an attempt: a slowed engine's long answer is no failure
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
    run, server = offer(platform, capacity, tick)
    return gather(platform, capacity, run, server, answer)


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
    with open_directly(request, 60.0) as response:
        choice = json.load(response)["choices"][0]
    return str(choice["message"]["content"]).strip()


def play(platform: Platform, tick: Tick | None = None, **workload: Any) -> LoadRun:
    """Offer the demo's requests to the service; see `fixed_workload` for when.

    Raises:
        KeyboardInterrupt: Ctrl-C came: part of a run would be told as the whole.
    """
    spec = fixed_workload("demo", PROMPT_TOKENS, OUTPUT_TOKENS, **workload)
    plan = LoadPlan(
        endpoint=Endpoint(url=platform.url.removesuffix("/v1"), model=platform.spec.model.id),
        workload=spec,
        timeout_s=TIMEOUT_S,
        cores=sorted(platform.spare_cores) or None,  # not those that the model computes on
    )
    run = run_load(plan, tick)
    if run.client.interrupted:
        raise KeyboardInterrupt
    return run


def _slo_s(platform: Platform) -> float:
    """What the service promises: of an emulated one that is slowed, as many times as much."""
    return platform.spec.ttft_budget(INTERACTIVE)


def measure_capacity(platform: Platform) -> float:
    """Requests/s that the service is taken to sustain: a share of what it turns out when full.

    Clients that ask in step are mostly refused where a whole round of theirs takes longer than the
    SLO, so a closed loop finds too little on a slow machine, or nothing. What it found is offered
    several times over, and what came of that again, until it is more than can be done.
    """
    clients = int(platform.spec.model.engine_args.get("max_num_seqs", 64))
    slo = {"ttft": format_seconds(_slo_s(platform))}
    play(platform, clients=clients, seconds=_WARM_S, seed=1, slo=slo)
    full = play(platform, clients=clients, seconds=_CAPACITY_S, seed=2, slo=slo)
    best = full.summary.goodput_per_s
    for _ in range(_MOST_PROBES):
        offered = max(FACTORS) * max(best, _LEAST_PER_S)
        probe = play(platform, stages=[(offered, _CAPACITY_S)], seed=2, slo=slo)
        best = max(best, probe.summary.goodput_per_s)
        if best < _FILLED * offered:
            break
    return best * _SUSTAINABLE


def offer(platform: Platform, capacity: float, tick: Tick) -> tuple[LoadRun, list[ServerPoint]]:
    """Offer the stages; returns (the run, the server's series)."""
    points: list[ServerPoint] = []
    before: dict[str, float] = {}

    def watch(progress: Progress) -> None:
        if (point := _server_point(platform, progress.t, before)) is not None:
            points.append(point)
        tick(progress)

    stages = [(factor * capacity, STAGE_S) for factor in FACTORS]
    return play(platform, watch, stages=stages, seed=3), points


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
    run: LoadRun,
    server: list[ServerPoint],
    answer: str,
) -> DemoData:
    """Everything that the table and the page show."""
    spec, records, client = platform.spec, run.records, run.client
    slo_s = _slo_s(platform)
    return DemoData(
        title="Forebay demo",
        model=spec.model.id,
        hardware=f"{machine.machine()}, {os.cpu_count()} cores",
        workload=f"{PROMPT_TOKENS} tokens in, {OUTPUT_TOKENS} out, no prompt twice, Poisson",
        slo_ttft_s=slo_s,
        capacity_rps=capacity,
        stages=_stages(records, slo_s),
        windows=windows(records, 1.0, slo_s),
        samples=[Sample(r.intended_s, r.ttft, r.outcome) for r in records],
        server=server,
        client=ClientNotes(
            client.lag_p99_s,
            client.realtime,
            client.realtime_reason,
            run.validity.valid,
            "" if run.validity.valid else "; ".join(run.validity.reasons),
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
        arrived = sum(tokens_within(record, start, end) for record in records)
        stages.append(
            DemoStage(factor, start, end, replace(summary, tokens_per_s=arrived / STAGE_S))
        )
    return stages
