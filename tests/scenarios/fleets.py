"""Fleets in virtual time: conversations placed by a router, and replicas that come and go.

Both run on `forebay.simulate`. Each returns its decisions as lines, and its figures.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from admissions import config_of
from chats import Chat, chats, workload

from forebay.engine_model import PROFILES, EngineProfile, named_profile
from forebay.measure import adjusted_percentile
from forebay.policies.request import BATCH, INTERACTIVE, AdmissionConfig, ClassPolicy, part_tokens
from forebay.policies.scaling import Autoscaler, LimitConfig, ScalingConfig
from forebay.serving.emulated import teach
from forebay.simulate import (
    PERIOD_S,
    Fleet,
    FleetConfig,
    FleetRun,
    ForebayRouter,
    GatedReplica,
    LeastOngoing,
    OpenReplica,
    Outcome,
    Router,
    SimRequest,
    Slo,
    TokenScaler,
    asks_of,
)
from forebay.workload import read_trace, shifted, window, within_context

Kept = tuple[list[str], dict[str, float]]


def gate(profile: EngineProfile, slo: Slo, batch_s: float = 30.0) -> AdmissionConfig:
    """Admission as a service file with this SLO sets it."""
    classes = {
        INTERACTIVE: ClassPolicy(slo.ttft_s, 2 * slo.ttft_s, 8.0),
        BATCH: ClassPolicy(batch_s, 2 * batch_s, 1.0),
    }
    return config_of(profile, classes=classes, tpot_s=slo.tpot_s)


def lines(fates: Sequence[Outcome]) -> list[str]:
    """What became of each request, to nine digits."""
    return [f"{fate.replica} {fate.outcome} {fate.ttft_s or 0.0:.9g}" for fate in fates]


# --- conversations ------------------------------------------------------------------------------

REPLICAS, SLOWED = 8, 20.0
LOAD, WARM_S, SECONDS = 48.0, 40.0, 60.0  # requests/s that a fleet so slow serves; seconds
CHAT_SLO = Slo(1.0 * SLOWED, 0.05 * SLOWED)


class Served:
    """A fleet, and the conversations that it serves."""

    def __init__(self, router: Router, make: Callable[[str], OpenReplica]) -> None:
        self.fates: list[Outcome] = []
        self._router = router
        self._replicas = [make(f"r{number}") for number in range(REPLICAS)]
        self._going: list[tuple[Outcome, Chat]] = []

    def play(self, first: Iterator[Chat], until_s: float) -> None:
        """Begin conversations when they are due; stop asking at a second; let all end."""
        due = [(chat.session.at_s or 0.0, number, chat) for number, chat in enumerate(first)]
        heapq.heapify(due)
        beat = 0
        while due or self._going:
            now = beat * PERIOD_S
            while due and due[0][0] < now:
                at, _, chat = heapq.heappop(due)
                if at < until_s:
                    self._ask(chat, at)
            for replica in self._replicas:
                replica.advance(now)
            self._router.heard(self._replicas, now)
            for chat, at in self._answered():
                heapq.heappush(due, (max(at, now), chat.session.number, chat))
            beat += 1

    def _ask(self, chat: Chat, now: float) -> None:
        fate = Outcome(chat.ask(len(self.fates), now))
        replica, fate.promised = self._router.place(self._replicas, fate.ask, now)
        replica.advance(now)
        replica.arrive(fate, now)
        self.fates.append(fate)
        self._going.append((fate, chat))

    def _answered(self) -> list[tuple[Chat, float]]:
        """Conversations whose last turn was answered, and when they ask again."""
        over = [pair for pair in self._going if pair[0].outcome != "open"]
        self._going = [pair for pair in self._going if pair[0].outcome == "open"]
        served = [(chat, fate.ended_at or 0.0) for fate, chat in over if fate.outcome == "ok"]
        nexts = [(chat, chat.next_at(ended)) for chat, ended in served]
        return [(chat, at) for chat, at in nexts if at is not None]


def conversations(*, salted: bool, seed: int) -> Kept:
    """Chats on eight slow H100s, beside a router that looks at nothing but requests in flight.

    With `salted`, tenants share no cached prefix.
    """
    profile = PROFILES["h100-8b"].slowed(SLOWED)
    config = gate(profile, CHAT_SLO, batch_s=30.0 * SLOWED)
    ours = profile.with_forebay_scheduler(part_tokens(profile.max_num_batched_tokens))
    router = ForebayRouter(random.Random(0).random)
    fates = _played(router, lambda name: GatedReplica(name, ours, config, teach), salted, seed)
    blind = _played(LeastOngoing(), lambda name: OpenReplica(name, profile), salted, seed)
    asked = [fate for fate in fates if fate.ask.at_s >= WARM_S]
    busiest = max(Counter(fate.replica for fate in asked).values())
    prompts = sum(fate.ask.prompt for fate in asked)
    figures = {
        "good": CHAT_SLO.attainment(asked),
        "shed": sum(fate.outcome == "shed" for fate in asked) / len(asked),
        "cached": _cached(asked),
        "cached_blind": _cached(blind),
        "promised": sum(fate.promised for fate in asked) / prompts,
        "ttft_p99": _late(asked),
        "ttft_p99_blind": _late(blind),
        "busiest": busiest * REPLICAS / len(asked),
    }
    return lines(fates), figures


def _played(
    router: Router, make: Callable[[str], OpenReplica], salted: bool, seed: int
) -> list[Outcome]:
    ttft_s, tpot_s, until_s = CHAT_SLO.ttft_s, CHAT_SLO.tpot_s, WARM_S + SECONDS
    spec = workload(LOAD, until_s, seed=seed, ttft_s=ttft_s, tpot_s=tpot_s, tenants=4)
    served = Served(router, make)
    served.play(chats(spec, salted=salted), until_s)
    return served.fates


def _cached(fates: Sequence[Outcome]) -> float:
    begun = [fate for fate in fates if fate.cached is not None]
    return sum(fate.cached or 0 for fate in begun) / sum(fate.ask.prompt for fate in begun)


def _late(fates: Sequence[Outcome]) -> float:
    """TTFT p99 in seconds, refused ones counted as never served; -1 where p99 is one of these."""
    ttfts = [fate.ttft_s for fate in fates if fate.ttft_s is not None]
    return adjusted_percentile(ttfts, len(fates) - len(ttfts), 99) or -1.0


# --- scaling ------------------------------------------------------------------------------------

TRACE = Path(__file__).parents[3] / "shared" / "traces" / "azure_conv.csv"
SLO = Slo(ttft_s=3.0, tpot_s=0.1)
SLOTS = 64
SETTLED_S, SPIKE_S = 600.0, 60.0
SIZES = {"chat": (800, 150), "long-prompts": (4000, 60), "long-answers": (200, 600)}


@dataclass(frozen=True)
class Traffic:
    """What a fleet of L4s is asked, and its bounds; `watched_from` leaves out its first seconds."""

    asks: list[SimRequest]
    least: int
    most: int
    initial: int
    cold_start_s: float
    stable_s: float = 300.0
    until_s: float = 0.0
    watched_from: float = 0.0


def _drawn(
    rng: np.random.Generator, stages: Sequence[tuple[float, float]], sizes: tuple[int, int]
) -> list[SimRequest]:
    """Poisson arrivals at a rate for some seconds each; sizes vary by a tenth."""
    asks: list[SimRequest] = []
    start = 0.0
    for rate, seconds in stages:
        at = start + rng.exponential(1 / rate)
        while at < start + seconds:
            prompt, answer = (max(round(float(s)), 1) for s in rng.normal(1, 0.1, 2) * sizes)
            asks.append(SimRequest(len(asks), float(at), prompt, answer))
            at += rng.exponential(1 / rate)
        start += seconds
    return asks


def ramp(seed: int) -> Traffic:
    """The stages of llm-d's published ramp, in sizes that an L4 serves.

    Source of the stages: guides/workload-autoscaling/slo-aware, benchmark-templates/BENCHMARK.md.
    """
    stages = [(2, 330), (4, 360), (6, 360), (8, 360), (10, 360), (4, 360), (1, 300)]
    asks = _drawn(np.random.default_rng([seed, 5]), stages, (2000, 150))
    return Traffic(asks, 3, 8, 3, cold_start_s=120.0, stable_s=180.0, until_s=3000.0)


def steady(size: str, spike: float, seed: int) -> Traffic:
    """A load that keeps 2.4 replicas busy; for a minute it is `spike` times as much."""
    engine = _l4()
    rate = 2.4 / work_s(*SIZES[size], engine)
    stages = [(rate, SETTLED_S), (spike * rate, SPIKE_S), (rate, SETTLED_S)]
    asks = _drawn(np.random.default_rng([seed, 7]), stages, SIZES[size])
    return Traffic(asks, 1, 16, 3, cold_start_s=60.0, watched_from=SETTLED_S)


def work_s(prompt: int, answer: int, engine: EngineProfile) -> float:
    """Seconds of a replica that a request takes, with every slot of it in use."""
    law = engine.step_time
    prompt_s = law.prefill_token * prompt + law.prefill_pair * prompt**2 / 2
    token_s = law.base / SLOTS + law.decode_sequence + law.context_token * (prompt + answer / 2)
    return prompt_s + answer * token_s


def trace(seed: int) -> Traffic:
    """Ten minutes of Azure's conversations of 2023, laid over themselves 90 s later."""
    with TRACE.open() as read:
        rows = within_context(read_trace("azure", read), _l4().max_model_len)
    both = sorted([*rows, *shifted(rows, 90.0)], key=lambda row: row.at_s)
    asks = asks_of(window(both, 0.0, 600.0))
    return Traffic(asks, 1, 24, 6, cold_start_s=120.0)


TRAFFIC: dict[str, Callable[[int], Traffic]] = {
    "ramp": ramp,
    **{f"steady {size}": partial(steady, size, 1.0) for size in SIZES},
    **{f"spike {size}": partial(steady, size, 2.0) for size in SIZES},
    "trace": trace,
}


def _l4() -> EngineProfile:
    """An L4 as Forebay serves it; no prompt is repeated, so none is looked for in a cache."""
    profile = named_profile("l4-8b")
    part = part_tokens(profile.max_num_batched_tokens)
    return replace(profile.with_forebay_scheduler(part), max_num_seqs=SLOTS, prefix_caching=False)


def scaling(traffic: str, seed: int) -> Kept:
    """A fleet of L4s that grows and shrinks by what it is offered."""
    asked = TRAFFIC[traffic](seed)
    done = grown(asked, seed)
    watched = [moment for moment in done.moments if moment.at_s >= asked.watched_from]
    changes = [by for at, by in done.changes if at >= asked.watched_from]
    moves = [f"{at:.9g} {by}" for at, by in done.changes]
    figures = {
        "attained": sum(map(SLO.holds, done.fates)) / len(done.fates),
        "shed": sum(fate.outcome == "shed" for fate in done.fates) / len(done.fates),
        "replicas": done.average_replicas,
        "most": max(moment.existing for moment in watched),
        "ups": sum(by > 0 for by in changes),
        "downs": sum(by < 0 for by in changes),
    }
    return lines(done.fates) + moves, figures


def grown(asked: Traffic, seed: int) -> FleetRun:
    """The traffic, to its end."""
    engine, rng = _l4(), np.random.default_rng(seed)
    config = FleetConfig(
        min=asked.least,
        max=asked.most,
        initial=asked.initial,
        cold_start_s=lambda: max(float(rng.normal(1.0, 0.1)), 0.1) * asked.cold_start_s,
        until_s=asked.until_s,
    )
    limits = LimitConfig(asked.least, asked.most, stable_s=asked.stable_s)
    wants = ScalingConfig(headroom=0.2, tolerated_s=SLO.ttft_s / 2)
    scaler = TokenScaler(Autoscaler(wants, limits, cold_start_s=asked.cold_start_s))
    router = ForebayRouter(np.random.default_rng(seed).random)
    admission = gate(engine, SLO)
    fleet = Fleet(config, lambda name: GatedReplica(name, engine, admission, teach), router, scaler)
    return fleet.run(asked.asks)
