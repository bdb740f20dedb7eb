"""What batch costs interactive requests, and what it gets, for some values of `batch_stretch`.

In virtual time: real admission and pacing in front of the engine model, in seconds and alike each
time. Interactive requests come at 0.4 of the capacity (Poisson), alone and with batch asking for 3
times the capacity; capacity is what the engine finishes when it never lacks requests. Each row:
interactive TTFT p95, and how much batch finishes of what interactive leaves of the capacity.

Run as: PYTHONPATH=tests/support python benchmarks/batch_frontier.py [--workloads chat,short]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from one_replica import DEMO, H100, Fate, OneReplica, capacity, p, poisson

from forebay.engine_model.profile import EngineProfile
from forebay.policies.decisions import BATCH, INTERACTIVE
from tables import print_table

STRETCHES = (1.1, 1.3, 1.5, 1.7, 2.0)
INTERACTIVE_LOAD, BATCH_LOAD = 0.4, 3.0  # of the capacity


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
    options = parser.parse_args()
    rows = [row for name in options.workloads.split(",") for row in frontier(name)]
    print_table(
        ["workload", "stretch", "p95 ms", "x of alone", "batch uses", "batch TTFT p99 s"], rows
    )


def frontier(name: str) -> list[tuple[object, ...]]:
    """One workload: alone, and with batch for each stretch."""
    traffic = TRAFFIC[name]
    most = capacity(traffic.prompt, traffic.answer, traffic.profile)
    alone = p(of(play(traffic, most, 1.0, with_batch=False), INTERACTIVE), 95)
    rows: list[tuple[object, ...]] = [(name, "alone", f"{1e3 * alone:.0f}", "1.00", "", "")]
    for stretch in STRETCHES:
        fates = play(traffic, most, stretch)
        p95 = p(of(fates, INTERACTIVE), 95)
        batch = of(fates, BATCH)
        settled_s = 0.75 * traffic.seconds
        used = sum(f.ended_at is not None for f in batch) / settled_s
        rows.append(
            (
                name,
                f"{stretch:g}",
                f"{1e3 * p95:.0f}",
                f"{p95 / alone:.2f}",
                f"{used / ((1 - INTERACTIVE_LOAD) * most):.2f}",
                f"{p(batch, 99):.0f}",
            )
        )
    return rows


def play(traffic: Traffic, most: float, stretch: float, *, with_batch: bool = True) -> list[Fate]:
    """What became of the requests after a quarter of the time; batch: of those that ended then."""
    replica = OneReplica(profile=traffic.profile, batch_stretch=stretch)
    start, end = replica.now, replica.now + traffic.seconds
    size = traffic.prompt, traffic.answer
    asks = poisson(INTERACTIVE_LOAD * most, traffic.seconds, *size, start=start, seed=1)
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
