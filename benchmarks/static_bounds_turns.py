"""Forebay and the static bounds in turn, so that a machine's drift is nobody's advantage.

The pace of a machine may double within minutes. Two figures compare where they were measured side
by side, so both servers run all the time and rounds are short: each contender once, in an order
that is mirrored from round to round (F A B, B A F, ...). A drift that goes one way then makes one
round's ratio too high and the next one's too low. What a round says is the ratio within it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import systems
from client import aborted, admitted_ttft, lag_p99_ms
from forebay.load.run import LoadRun
from forebay.measure import RequestRecord, percentile
from static_bounds_offered import Offer
from static_bounds_sweep import Bound

ROUND_SEED = 31
ROUND_PAUSE_S = 5.0  # over a round's seconds: the last answers, a settled server, a new client
FOREBAY = "forebay"


@dataclass(frozen=True)
class Contender:
    """A system as it is compared: a server, and what is set for its turn."""

    name: str
    server: systems.Server
    bound: Bound | None = None
    attempts: int = 1  # of each client


@dataclass(frozen=True)
class Turn:
    """What one contender made of an offer, in one round.

    Attributes:
        contender: who.
        offer: what was offered.
        round: from 0 on.
        run: what the clients saw.
        cpu_s: of its own processes, meanwhile.
        waiting_cores: what the servers that had nothing to do used meanwhile, of a core.
    """

    contender: Contender
    offer: Offer
    round: int
    run: LoadRun
    cpu_s: float
    waiting_cores: float

    @cached_property
    def good_per_s(self) -> float:
        """Good requests/s."""
        return self.offer.good_per_s(self.run.records)

    @cached_property
    def refused(self) -> list[RequestRecord]:
        """Who was turned away on arrival; by HAProxy, with a 503 of its own that is no failure."""
        by_proxy = self.contender.bound is not None
        return [
            r
            for r in self.run.records
            if (r.outcome == "shed" and r.reason != "deadline_exceeded")
            or (by_proxy and r.status == 503)
        ]

    @property
    def let_in(self) -> list[RequestRecord]:
        """All others."""
        refused = {id(record) for record in self.refused}
        return [record for record in self.run.records if id(record) not in refused]

    def row(self) -> dict[str, Any]:
        """Its figures, for the file."""
        return {"round": self.round, **figures([self])}


def figures(turns: Sequence[Turn]) -> dict[str, Any]:
    """What one system's turns at one offer gave together."""
    one = turns[0]
    let_in = [r for turn in turns for r in turn.let_in]
    refusals = [1e3 * r.e2e for turn in turns for r in turn.refused]
    good = [turn.good_per_s for turn in turns]
    return {
        "system": one.contender.name,
        "workload": one.offer.workload,
        "x": one.offer.factor,
        "offered/s": (len(let_in) + len(refusals)) / (len(turns) * one.offer.seconds),
        "good/s": sum(good) / len(good),
        "least": min(good),
        "most": max(good),
        "TTFT p50 s": admitted_ttft(let_in, 50),
        "TTFT p99 s": admitted_ttft(let_in, 99),
        "aborted": aborted(let_in),
        "refused": len(refusals),
        "refusal p99 ms": percentile(refusals, 99),
        "failed": sum(r.outcome not in ("ok", "shed") for r in let_in),
        "CPU s": sum(turn.cpu_s for turn in turns),
        "waiting, of a core": max(turn.waiting_cores for turn in turns),
        "lag p99 ms": max(lag_p99_ms(turn.run) for turn in turns),
        "valid": all(turn.run.validity.valid for turn in turns),
    }


@dataclass
class Match:
    """What is offered to whom, and what they made of it; the first contender is compared to each.

    Attributes:
        offer: the same to all.
        contenders: in the order of the first round.
        turns: so far.
    """

    offer: Offer
    contenders: Sequence[Contender]
    turns: list[Turn] = field(default_factory=list)

    def play_pair(self, servers: Sequence[systems.Server]) -> None:
        """Two rounds, there and back; in each of them all get the same arrivals."""
        for order in (self.contenders, self.contenders[::-1]):
            number = len(self.turns) // len(self.contenders)
            here = [taken(self.offer, one, number, servers) for one in order]
            self.turns += here
            said = ", ".join(f"{turn.contender.name} {turn.good_per_s:.2f}" for turn in here)
            print(f"  {self.offer}, round {number + 1}: {said} good/s", flush=True)

    def of(self, contender: Contender) -> list[Turn]:
        """One contender's turns."""
        return [turn for turn in self.turns if turn.contender == contender]

    def ratios(self) -> dict[str, list[float]]:
        """Good requests of the first over those of each other one, round by round.

        At least one of the other's, so that a round in which it had none is no division by zero.
        """
        ours = {turn.round: turn.good_per_s for turn in self.of(self.contenders[0])}
        least = 1 / self.offer.counted_s
        return {
            other.name: [
                ours[turn.round] / max(turn.good_per_s, least)
                for turn in sorted(self.of(other), key=lambda turn: turn.round)
            ]
            for other in self.contenders[1:]
        }

    @property
    def pair_s(self) -> float:
        """About how long two rounds take."""
        return 2 * len(self.contenders) * (self.offer.seconds + ROUND_PAUSE_S)


def taken(
    offer: Offer, contender: Contender, number: int, servers: Sequence[systems.Server]
) -> Turn:
    """One contender's turn, while the other servers wait."""
    if contender.bound is not None:
        contender.bound.set_on(contender.server.url)
    systems.take_turn(contender.server, servers)
    waiting = [server for server in servers if server is not contender.server]
    began, before, idled = time.monotonic(), used_s([contender.server]), used_s(waiting)
    run = offer.play(
        contender.server.url, seed=ROUND_SEED + 2 * number, attempts=contender.attempts
    )
    took = time.monotonic() - began
    return Turn(
        contender=contender,
        offer=offer,
        round=number,
        run=run,
        cpu_s=used_s([contender.server]) - before,
        waiting_cores=(used_s(waiting) - idled) / took,
    )


def used_s(servers: Sequence[systems.Server]) -> float:
    """CPU seconds of all their processes so far."""
    return sum(sum(server.cpu_seconds().values()) for server in servers)
