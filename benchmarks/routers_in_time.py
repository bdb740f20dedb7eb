"""Forebay's routing and Ray's, on eight H100-like replicas in virtual time.

The objects of production (`forebay.simulate`) under the conversations of `chats.py`; Ray's choices
as their source has them, before replicas that take everything. Run it before `routers.py`: it takes
a minute, needs no Ray, and says the same every time.

Run as: python benchmarks/routers_in_time.py [--capacity 60] [--slowed 20] [--isolation both]
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

from chats import Chat, chats, workload

from forebay.engine_model import PROFILES, EngineProfile
from forebay.measure import adjusted_percentile, percentile
from forebay.policies.request import BATCH, INTERACTIVE, AdmissionConfig, ClassPolicy, part_tokens
from forebay.serving.emulated import teach
from forebay.simulate import (
    PERIOD_S,
    ForebayRouter,
    GatedReplica,
    OpenReplica,
    Outcome,
    Placed,
    PowerOfTwo,
    PrefixAffinity,
    RoundRobin,
    Router,
    SimRequest,
    Slo,
)
from tables import Bar, exit_by_bars, print_bars, print_table, write

REPLICAS, TENANTS = 8, 4
TTFT_S, TPOT_S = 1.0, 0.05
LOAD = 0.8
MOST_SHARE, MOST_OF_STOCK = 1.3, 0.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=float, default=60.0, help="requests/s of the fleet")
    parser.add_argument("--load", default=str(LOAD), help="shares of it that are offered")
    parser.add_argument("--slowed", type=float, default=20.0)
    parser.add_argument("--warm", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--isolation", choices=["shared", "tenant", "both"], default="both")
    parser.add_argument("--routers", type=int, default=1, help="of Forebay")
    parser.add_argument("--systems", default="forebay,round-robin,power-of-two,prefix-affinity")
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    modes = ["shared", "tenant"] if options.isolation == "both" else [options.isolation]
    rows, bars = [], []
    for isolation in modes:
        for load in map(float, options.load.split(",")):
            here = [measured(name, options, isolation, load) for name in options.systems.split(",")]
            rows += here
            bars += judged(here, isolation)
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    print_bars(bars)
    write("routers-in-time", {"rows": rows, "bars": [bar.as_dict() for bar in bars]})


def measured(name: str, options: Any, isolation: str, load: float) -> dict[str, Any]:
    """One system at one load."""
    spec = workload(
        load * options.capacity, options.warm + options.seconds, seed=options.seed,
        ttft_s=TTFT_S * options.slowed, tpot_s=TPOT_S * options.slowed, tenants=TENANTS,
    )  # fmt: skip
    run = Run(name, options.slowed, options.routers)
    run.play(list(chats(spec, salted=isolation == "tenant")), options.warm + options.seconds)
    fates = [fate for fate in run.fates if fate.ask.at_s >= options.warm]
    begun = [fate for fate in fates if fate.cached is not None]
    sent = Counter(fate.replica for fate in fates)
    slo = Slo(TTFT_S * options.slowed, TPOT_S * options.slowed)
    return {
        "system": name,
        "isolation": isolation,
        "load": load,
        "requests": len(fates),
        "good %": 100 * slo.attainment(fates),
        "shed": sum(fate.outcome == "shed" for fate in fates),
        "hit %": 100 * sum(fate.cached or 0 for fate in begun) / sum(f.ask.prompt for f in begun),
        "promised %": 100 * sum(f.promised for f in begun) / sum(f.ask.prompt for f in begun),
        "TTFT p50 s": percentile([fate.ttft_s or 0.0 for fate in begun], 50),
        "TTFT p99 s": adjusted_percentile(
            [fate.ttft_s or 0.0 for fate in begun], len(fates) - len(begun), 99
        ),
        "busiest / mean": max(sent.values()) * REPLICAS / len(fates),
    }


class Run:
    """A fleet of one system, and the conversations that it serves."""

    def __init__(self, name: str, slowed: float, routers: int = 1, attempts: int = 1) -> None:
        """A request that a replica refuses is offered to `attempts` of them in all."""
        self.fates: list[Outcome] = []
        self.asked = 0  # of replicas, the attempts after a refusal included
        self._attempts = attempts
        self._router = router_of(name, routers)
        profile = PROFILES["h100-8b"].slowed(slowed)
        make = gated if name == "forebay" else OpenReplica
        self.replicas = [make(f"r{k}", profile) for k in range(REPLICAS)]
        self._going: list[tuple[Outcome, Chat]] = []

    def play(self, asked: Sequence[Chat], until_s: float) -> None:
        """Have conversations begin when they do, and go on until then; let all end."""
        due = [(chat.session.at_s or 0.0, k, chat) for k, chat in enumerate(asked)]
        heapq.heapify(due)
        beat = 0
        while due or self._going:
            self._until(beat * PERIOD_S, due, until_s)
            for chat, at in self._go_on():
                heapq.heappush(due, (max(at, beat * PERIOD_S), chat.session.number, chat))
            beat += 1

    def _until(self, now: float, due: list[tuple[float, int, Chat]], until_s: float) -> None:
        """Ask what is due before a beat, and take the beat."""
        while due and due[0][0] < now:
            at, _, chat = heapq.heappop(due)
            if at < until_s:
                self._serve(chat, at)
        for replica in self.replicas:
            replica.advance(now)
        self._router.heard(self.replicas, now)

    def _serve(self, chat: Chat, now: float) -> None:
        ask = chat.ask(len(self.fates), now)
        left = self.replicas
        for _ in range(self._attempts):
            fate = Outcome(ask)
            replica, fate.promised = self._router.place(left, ask, now)
            replica.advance(now)
            replica.arrive(fate, now)
            self.asked += 1
            if fate.outcome != "shed":
                break
            left = [one for one in left if one is not replica]
        self.fates.append(fate)
        self._going.append((fate, chat))

    def _go_on(self) -> list[tuple[Chat, float]]:
        """Conversations whose last turn was answered, and when they ask again."""
        over = [pair for pair in self._going if pair[0].outcome != "open"]
        self._going = [pair for pair in self._going if pair[0].outcome == "open"]
        return [
            (chat, at)
            for fate, chat in over
            if fate.outcome == "ok" and (at := chat.next_at(fate.ended_at or 0.0)) is not None
        ]


def gated(name: str, profile: EngineProfile) -> GatedReplica:
    """A replica as Forebay serves it."""
    slowed = profile.step_time.base / PROFILES["h100-8b"].step_time.base
    promise, flood = TTFT_S * slowed, 30.0 * slowed
    config = AdmissionConfig(
        classes={
            INTERACTIVE: ClassPolicy(promise, 2 * promise, 8.0),
            BATCH: ClassPolicy(flood, 2 * flood, 1.0),
        },
        slots=profile.max_num_seqs,
        kv_tokens=profile.kv_tokens,
        step_tokens=profile.max_num_batched_tokens,
        tpot_s=TPOT_S * slowed,
    )
    part = part_tokens(profile.max_num_batched_tokens)
    return GatedReplica(name, profile.with_forebay_scheduler(part), config, teach)


class InTurn:
    """Several of Forebay's routers, asked in turn as the proxy does; they hear nothing of each
    other.
    """

    def __init__(self, routers: Sequence[Router]) -> None:
        self._routers = routers
        self._turns = cycle(routers)

    def heard(self, replicas: Sequence[OpenReplica], now: float) -> None:
        for router in self._routers:
            router.heard(replicas, now)

    def place(self, replicas: Sequence[OpenReplica], ask: SimRequest, now: float) -> Placed:
        return next(self._turns).place(replicas, ask, now)


def router_of(name: str, routers: int) -> Router:
    """A way to place requests."""
    made: dict[str, Callable[[], Router]] = {
        "forebay": lambda: InTurn(
            [ForebayRouter(random.Random(k).random, routers) for k in range(routers)]
        ),
        "round-robin": RoundRobin,
        "power-of-two": lambda: PowerOfTwo(random.Random(1).random),
        "prefix-affinity": PrefixAffinity,
    }
    return made[name]()


def judged(rows: Sequence[dict[str, Any]], isolation: str) -> list[Bar]:
    """Forebay against the best of Ray's."""
    ours = [row for row in rows if row["system"] == "forebay"]
    theirs = [row for row in rows if row["system"] != "forebay"]
    if not ours or not theirs:
        return []
    best = min(row["TTFT p99 s"] or math.inf for row in theirs)
    hits = max(row["hit %"] for row in theirs)
    return [
        Bar(f"{isolation}: hits, % (best of Ray's)", ours[0]["hit %"], hits, at_least=True),
        Bar(f"{isolation}: TTFT p99, x the best of Ray's", ours[0]["TTFT p99 s"] / best,
            MOST_OF_STOCK),
        Bar(f"{isolation}: busiest replica, x mean", ours[0]["busiest / mean"], MOST_SHARE),
    ]  # fmt: skip


if __name__ == "__main__":
    exit_by_bars(main)
