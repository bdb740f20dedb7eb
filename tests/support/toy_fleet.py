"""A toy fleet for routing tests: replicas compute prompts in turn and cache what they computed.

Exact caches and clocks, so that a test can compare a router with one that knows everything.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from forebay.policies.routing import Prompt, ReplicaStats
from forebay.policies.routing.prefix_index import chunk_end

RATE = 10_000.0  # prompt tokens per second of each replica
REQUEST_S = 0.004  # of its front end, a request
BYTES_PER_TOKEN = 4.0
PERIOD_S = 0.5


@dataclass
class Replica:
    """Computes prompts one after the other; a prefix is cached once it was computed."""

    name: str
    capacity: int = 4_000  # chunks
    free_at: float = 0.0
    busy_s: float = 0.0
    arrivals: int = 0
    sequence: int = 0
    prompt_bytes: float = 0.0
    cached_bytes: float = 0.0
    cache: dict[int, float] = field(default_factory=dict)  # chunk: when it is computed

    def hit(self, prompt: Prompt, at: float) -> int:
        """Bytes of the prompt that are cached by `at`."""
        for index, chunk in enumerate(prompt.chunks):
            if self.cache.get(chunk, float("inf")) > at:
                return chunk_end(index - 1)
        return chunk_end(len(prompt.chunks) - 1)

    def wait(self, now: float) -> float:
        return max(self.free_at - now, 0.0)

    def service_s(self, prompt: Prompt, hit: int) -> float:
        return REQUEST_S + (prompt.size - hit) / BYTES_PER_TOKEN / RATE

    def serve(self, prompt: Prompt, now: float) -> None:
        start = max(now, self.free_at)
        hit = self.hit(prompt, start)
        seconds = self.service_s(prompt, hit)
        self.free_at = start + seconds
        self.busy_s += seconds
        self.arrivals += 1
        self.prompt_bytes += prompt.size
        self.cached_bytes += hit
        for chunk in reversed(prompt.chunks):
            self.cache[chunk] = min(self.cache.pop(chunk, self.free_at), self.free_at)
        while len(self.cache) > self.capacity:
            del self.cache[next(iter(self.cache))]

    def stats(self, now: float) -> ReplicaStats:
        self.sequence += 1
        return ReplicaStats(
            sequence=self.sequence,
            wait_s=self.wait(now),
            prefill_rate=RATE,
            bytes_per_token=BYTES_PER_TOKEN,
            kv_tokens=int(self.capacity * 512 / BYTES_PER_TOKEN),
            arrivals=self.arrivals,
            prompt_tokens=self.prompt_bytes / BYTES_PER_TOKEN,
            cached_tokens=self.cached_bytes / BYTES_PER_TOKEN,
        )


Send = tuple[float, Prompt]
Choose = Callable[[dict[str, Replica], Prompt, float], str]
Publish = Callable[[str, ReplicaStats, float], None]


def run(sends: list[Send], choose: Choose, publish: Publish | None = None) -> list[Replica]:
    """Serve the sends on eight replicas; publications reach the routers half a second late."""
    fleet = {f"replica-{n}": Replica(f"replica-{n}") for n in range(8)}
    last = max(at for at, _ in sends)
    due = [(n * PERIOD_S / 8, name) for n, name in enumerate(fleet)]
    heapq.heapify(due)
    under_way: list[tuple[float, str, ReplicaStats]] = []
    for now, prompt in sorted(sends, key=lambda send: send[0]):
        while due[0][0] <= min(now, last):
            at, name = heapq.heappop(due)
            under_way.append((at + PERIOD_S, name, fleet[name].stats(at)))
            heapq.heappush(due, (at + PERIOD_S, name))
        while publish is not None and under_way and under_way[0][0] <= now:
            at, name, stats = under_way.pop(0)
            publish(name, stats, at)
        fleet[choose(fleet, prompt, now)].serve(prompt, now)
    return list(fleet.values())


def oracle(fleet: dict[str, Replica], prompt: Prompt, now: float) -> str:
    """Knows every queue and every cache as they are."""

    def ready_in(replica: Replica) -> float:
        wait = replica.wait(now)
        return wait + replica.service_s(prompt, replica.hit(prompt, now + wait))

    return min(fleet, key=lambda name: (ready_in(fleet[name]), fleet[name].busy_s))


def hit_share(fleet: list[Replica]) -> float:
    return sum(r.cached_bytes for r in fleet) / sum(r.prompt_bytes for r in fleet)


def imbalance(fleet: list[Replica]) -> float:
    """Busy time of the busiest replica over the mean."""
    return max(r.busy_s for r in fleet) * len(fleet) / sum(r.busy_s for r in fleet)


def prompt_of(*parts: tuple[object, int], home: object = None) -> Prompt:
    """A prompt of named parts, each of so many chunks; the same names share a prefix."""
    chain: list[int] = []
    link = 0
    for name, chunks in parts:
        for index in range(chunks):
            link = hash((link, Random(f"{name}").getrandbits(60), index)) & (2**63 - 1)
            chain.append(link)
    prompt = Prompt(size=chunk_end(len(chain) - 1) + 100, chunks=tuple(chain))
    if home is None:
        return prompt
    return replace(prompt, home=Random(f"{home}").getrandbits(60))


def conversations(rng: Random, count: int, over_s: float) -> list[Send]:
    """Conversations of one to eight turns that begin with one of twenty Zipf system prompts."""
    weights = [1 / rank for rank in range(1, 21)]
    sends: list[Send] = []
    for number in range(count):
        at = rng.uniform(0.0, over_s)
        system = rng.choices(range(20), weights)[0]
        parts: list[tuple[object, int]] = [(f"system {system}", 4 + system % 7)]
        for turn in range(rng.randint(1, 8)):
            parts.append((f"turn {number} {turn}", rng.randint(1, 5)))
            sends.append((at, prompt_of(*parts, home=number)))
            at += rng.expovariate(1 / 3.0) + 0.5
    return sends
