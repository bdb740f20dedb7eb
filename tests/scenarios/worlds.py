"""The engines, and what plays traffic on them: the only file here that knows the harnesses."""

from __future__ import annotations

import heapq
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from admissions import CLASSES
from one_replica import DEMO, Ask, Fate, OneReplica, capacity
from virtual_fleet import VirtualFleet, fleet_capacity

from forebay.engine_model import PROFILES, EngineModel, EngineProfile, EngineRequest, Output
from forebay.engine_model.steps import Step
from forebay.policies.request import part_tokens

__all__ = ["CLASSES", "ENGINES", "Ask", "Engine", "Fate", "fleet_capacity", "obeying", "served"]


@dataclass(frozen=True)
class Engine:
    """An engine, the pace that is promised on it, and how its steps are played."""

    profile: EngineProfile
    tpot_s: float
    plays: Callable[[EngineProfile], Any] = EngineModel

    def capacity(self, prompt: int, answer: int) -> float:
        """Requests/s of one size that it finishes when it never lacks any."""
        return capacity(prompt, answer, self.profile, self.plays)

    def replica(self, seed: int, **more: Any) -> OneReplica:
        """A replica on it, warmed up."""
        settings = {"tpot_s": self.tpot_s, "plays": self.plays, **more}
        return OneReplica(profile=self.profile, seed=seed, **settings)


class Pipelined:
    """Two micro-batches in a pipeline of two stages: each has half of the slots and of the cache.

    Each step takes as long as one of the whole engine; their ends alternate. So a sequence has a
    token after two of the intervals between steps, as with vLLM's `pipeline_parallel_size: 2`.
    """

    def __init__(self, profile: EngineProfile) -> None:
        half = replace(
            profile,
            max_num_seqs=profile.max_num_seqs // 2,
            kv_blocks=profile.kv_blocks // 2 + 1,
            prefix_caching=False,
        )
        self._halves = EngineModel(half), EngineModel(half)
        self._steps: list[Step | None] = [None, None]
        self._of: dict[str, EngineModel] = {}

    def add(self, request: EngineRequest, now: float) -> None:
        """To the half with fewer requests; it begins by itself at the next step."""
        one = min(self._halves, key=lambda half: half.running + half.waiting)
        self._of[request.request_id] = one
        one.add(request, now)

    def abort(self, request_id: str) -> bool:
        """End a request."""
        one = self._of.pop(request_id, None)
        return one is not None and one.abort(request_id)

    def start_step(self, now: float) -> Step | None:
        """The step in progress that ends next; idle halves begin one."""
        for index, half in enumerate(self._halves):
            if self._steps[index] is None and (step := half.start_step(now)) is not None:
                other = self._steps[1 - index]
                if other is not None and other.started_at == now:  # the first stage is taken
                    step = replace(step, started_at=now + other.duration_s / 2)
                self._steps[index] = step
        going = [step for step in self._steps if step is not None]
        return min(going, key=lambda step: step.ends_at) if going else None

    def finish_step(self) -> list[Output]:
        """End the step that ends next."""
        ends = [step.ends_at if step else float("inf") for step in self._steps]
        index = ends.index(min(ends))
        self._steps[index] = None
        return self._halves[index].finish_step()


_SLOTS = 64


def _served(name: str) -> EngineProfile:
    profile = replace(PROFILES[name], prefix_caching=False, max_num_seqs=_SLOTS)
    return profile.with_forebay_scheduler(part_tokens(profile.max_num_batched_tokens))


_H100 = _served("h100-8b")
ENGINES = {
    "demo": Engine(DEMO, 0.2),
    "l4-8b": Engine(_served("l4-8b"), 0.1),
    "h100-8b": Engine(_H100, 0.05),
    "h100-70b-tp4": Engine(_served("h100-70b"), 0.1),
    "h100-8b-speculative": Engine(replace(_H100, tokens_per_step=2.5), 0.05),
    "h100-70b-pipelined": Engine(_served("h100-70b"), 0.2, Pipelined),
}


def served(
    engine: Engine, asks: Callable[[float], Iterable[Ask]], seed: int, **more: Any
) -> list[Fate]:
    """What became of requests whose times count from the second that `asks` is given."""
    replica = engine.replica(seed, **more)
    return replica.run(asks(replica.now))


def obeying(
    engine: Engine, asks: Callable[[float], Iterable[Ask]], seed: int, attempts: int
) -> list[list[Fate]]:
    """The attempts of each client, that waits for as long as it is told and comes again."""
    replica = engine.replica(seed)
    order = itertools.count()
    first = sorted(asks(replica.now), key=lambda ask: ask.at)
    made: list[list[Fate]] = [[] for _ in first]
    due = [(ask.at, next(order), number) for number, ask in enumerate(first)]
    heapq.heapify(due)
    while due:
        at, _, number = heapq.heappop(due)
        replica.run([], until=at)
        fate = replica.arrive(replace(first[number], at=at), retries=len(made[number]))
        made[number].append(fate)
        if fate.shed is not None and len(made[number]) < attempts:
            heapq.heappush(due, (at + fate.shed.retry_after_s, next(order), number))
    replica.run([])
    return made


def fleet(tenants: dict[str, dict[str, Any]], asks: Sequence[Ask], replicas: int = 8) -> list[Fate]:
    """What became of requests to a fleet of H100s with such tenants."""
    with tempfile.TemporaryDirectory() as folder:
        return VirtualFleet(Path(folder), tenants, replicas).run(asks)
