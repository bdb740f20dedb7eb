"""The demo's steps: one chat, a quick capacity, four stages of load, a table and a page."""

from __future__ import annotations

import json
import os
import platform as machine
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from forebay.load.client import open_directly
from forebay.load.plan import Endpoint
from forebay.load.results import Measured, measure
from forebay.load.run import LoadPlan, LoadRun, run_load
from forebay.load.run.runner import Progress
from forebay.policies.request import INTERACTIVE
from forebay.report import render_load_page
from forebay.spec.files import format_seconds
from forebay.spec.workload import fixed_workload

if TYPE_CHECKING:
    from forebay.serving.cluster import Platform

FACTORS = (0.5, 1.0, 3.0, 0.5)
STAGE_S = 20.0
PROMPT_TOKENS, OUTPUT_TOKENS = 180, 48
REQUESTS = f"{PROMPT_TOKENS} tokens in, {OUTPUT_TOKENS} out, no prompt twice, Poisson"
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


@dataclass(frozen=True, slots=True)
class Shown:
    """What the table and the page show.

    Attributes:
        measured: the stages.
        capacity: requests/s that were taken to be sustainable.
        answer: to `QUESTION`.
    """

    measured: Measured
    capacity: float
    answer: str

    def page(self) -> str:
        """The report of a load test, with the question and its answer."""
        words = f"{REQUESTS}; capacity {self.capacity:.0f} requests/s; {machine.machine()}, "
        report = replace(
            self.measured.report(),
            title="Forebay demo",
            workload_text=f"{words}{os.cpu_count()} cores",
            chat=(QUESTION, self.answer),
        )
        return render_load_page(report)


def run_demo(platform: Platform, say: Say, tick: Tick) -> Shown:
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
    return Shown(offer(platform, capacity, tick), capacity, answer)


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


def planned(platform: Platform, **workload: Any) -> LoadPlan:
    """The demo's requests for the service; see `fixed_workload` for when."""
    return LoadPlan(
        endpoint=Endpoint(url=platform.url.removesuffix("/v1"), model=platform.spec.model.id),
        workload=fixed_workload("demo", PROMPT_TOKENS, OUTPUT_TOKENS, **workload),
        timeout_s=TIMEOUT_S,
        cores=sorted(platform.spare_cores) or None,  # not those that the model computes on
    )


def whole(run: LoadRun) -> LoadRun:
    """The run itself.

    Raises:
        KeyboardInterrupt: Ctrl-C came: part of a run would be told as the whole.
    """
    if run.client.interrupted:
        raise KeyboardInterrupt
    return run


def play(platform: Platform, **workload: Any) -> LoadRun:
    """Offer them, without a look at the service.

    Raises:
        KeyboardInterrupt: see `whole`.
    """
    return whole(run_load(planned(platform, **workload)))


def _slo(platform: Platform) -> dict[str, str]:
    """What the service promises: of an emulated one that is slowed, as many times as much."""
    return {"ttft": format_seconds(platform.spec.ttft_budget(INTERACTIVE))}


def measure_capacity(platform: Platform) -> float:
    """Requests/s that the service is taken to sustain: a share of what it turns out when full.

    Clients that ask in step are mostly refused where a whole round of theirs takes longer than the
    SLO, so a closed loop finds too little on a slow machine, or nothing. What it found is offered
    several times over, and what came of that again, until it is more than can be done.
    """
    clients = int(platform.spec.model.engine_args.get("max_num_seqs", 64))
    slo = _slo(platform)
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


def offer(platform: Platform, capacity: float, tick: Tick) -> Measured:
    """Offer the stages, reading the service's metrics meanwhile.

    Raises:
        KeyboardInterrupt: see `play`.
    """
    stages = [(round(factor * capacity, 1), STAGE_S) for factor in FACTORS]
    plan = planned(platform, stages=stages, seed=3, slo=_slo(platform))
    measured = measure(plan, platform.metrics_pages, tick)
    return replace(measured, run=whole(measured.run))
