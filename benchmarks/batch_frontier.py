"""What batch costs interactive requests, and what it gets, for some values of `batch_stretch`.

In virtual time: real admission and pacing in front of the engine model, in seconds and alike each
time. Interactive requests come at a share of the capacity (Poisson), alone and with batch asking
for 3 times the capacity; capacity is what the engine finishes when it never lacks requests. Each
row: interactive TTFT p95, how many of these requests were refused, and how much batch finishes of
what they leave of the capacity.

Run as: PYTHONPATH=tests/support python benchmarks/batch_frontier.py [--workloads chat,short]
        [--stretches 1.7] [--loads 0.4,0.6] [--seconds 120]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from one_replica import DEMO, H100, Fate, OneReplica, capacity, p, poisson

from forebay.engine_model import EngineProfile
from forebay.policies.request import BATCH, INTERACTIVE
from tables import print_table

STRETCHES = (1.1, 1.3, 1.5, 1.7, 2.0)
BATCH_LOAD = 3.0  # of the capacity
HEAD = (
    "workload",
    "load",
    "stretch",
    "p95 ms",
    "x of alone",
    "refused",
    "batch uses",
    "batch TTFT p99 s",
)


@dataclass(frozen=True)
class Traffic:
    """One engine and one size of requests: tokens of prompt and answer, and for how long (s)."""

    profile: EngineProfile
    prompt: int
    answer: int
    seconds: float


TRAFFIC = {
    "chat": Traffic(H100, 1000, 100, 60.0),
    "even": Traffic(H100, 200, 200, 30.0),
    "short": Traffic(DEMO, 182, 48, 40.0),
    "long prompts": Traffic(DEMO, 1442, 48, 40.0),
    "long outputs": Traffic(DEMO, 60, 400, 60.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", default=",".join(TRAFFIC))
    parser.add_argument("--stretches", type=numbers, default=STRETCHES)
    parser.add_argument("--loads", type=numbers, default=(0.4,), help="interactive, of capacity")
    parser.add_argument("--seconds", type=float, default=0.0, help="instead of each one's own")
    options = parser.parse_args()
    rows: list[tuple[object, ...]] = []
    for name in options.workloads.split(","):
        traffic = TRAFFIC[name]
        if options.seconds:
            traffic = replace(traffic, seconds=options.seconds)
        for load in options.loads:
            rows += frontier(name, traffic, load, options.stretches)
    print_table(HEAD, rows)


def numbers(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split(",")))


def frontier(
    name: str, traffic: Traffic, load: float, stretches: tuple[float, ...]
) -> list[tuple[object, ...]]:
    """One workload at one load: alone, and with batch for each stretch."""
    most = capacity(traffic.prompt, traffic.answer, traffic.profile)
    fates = of(play(traffic, most, load, 1.0, with_batch=False), INTERACTIVE)
    alone = p(fates, 95)
    rows: list[tuple[object, ...]] = [
        (name, load, "alone", f"{1e3 * alone:.0f}", "1.00", refused(fates), "", "")
    ]
    for stretch in stretches:
        fates = play(traffic, most, load, stretch)
        interactive, batch = of(fates, INTERACTIVE), of(fates, BATCH)
        used = sum(f.ended_at is not None for f in batch) / (0.75 * traffic.seconds)
        rows.append(
            (
                name,
                load,
                f"{stretch:g}",
                f"{1e3 * p(interactive, 95):.0f}",
                f"{p(interactive, 95) / alone:.2f}",
                refused(interactive),
                f"{used / ((1 - load) * most):.2f}",
                f"{p(batch, 99):.0f}",
            )
        )
    return rows


def refused(fates: list[Fate]) -> str:
    return f"{sum(fate.shed is not None for fate in fates)} of {len(fates)}"


def play(
    traffic: Traffic, most: float, load: float, stretch: float, *, with_batch: bool = True
) -> list[Fate]:
    """What became of the requests after a quarter of the time; batch: of those that ended then."""
    replica = OneReplica(profile=traffic.profile, batch_stretch=stretch)
    start, end = replica.now, replica.now + traffic.seconds
    size = traffic.prompt, traffic.answer
    asks = poisson(load * most, traffic.seconds, *size, start=start, seed=1)
    if with_batch:
        rate = BATCH_LOAD * most
        asks += poisson(rate, traffic.seconds, *size, start=start, seed=2, class_name=BATCH)
    replica.run(asks, until=end)
    settled = start + traffic.seconds / 4
    return [
        fate
        for fate in replica.fates
        if (fate.ask.at if fate.ask.class_name == INTERACTIVE else fate.ended_at or 0.0) >= settled
    ]


def of(fates: list[Fate], class_name: str) -> list[Fate]:
    return [fate for fate in fates if fate.ask.class_name == class_name]


if __name__ == "__main__":
    main()
