"""Noise buys nothing: a steady load hardly changes the fleet, a short spike once each way at most.

In virtual time (`forebay.simulate`): Poisson arrivals at a steady rate, watched for 15 minutes
after the fleet has settled; and the same with one minute at twice the rate, watched for as long
again as a fleet needs to shrink. Over several seeds, cold starts, loads and sizes of requests.

Run as: python benchmarks/scaling_noise.py [--jobs 1] [--seeds 1]
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from forebay.engine_model import EngineProfile
from forebay.simulate import SimRequest, Slo, work_s
from scaling_world import OURS, World, run, served
from tables import Bar, exit_by_bars, print_bars, print_table, write

SETTLE_S, WATCH_S, SPIKE_S, AFTER_S = 1200.0, 900.0, 60.0, 900.0
SIZES = {"chat": (800, 150), "long prompts": (4000, 60), "long answers": (200, 600)}
COLD_STARTS = (30.0, 120.0)
LOADS = (1.6, 3.2)  # replicas kept busy
MOST_CHANGES = 2


@dataclass(frozen=True)
class Case:
    """One run."""

    size: str
    busy: float
    cold_start_s: float
    spike: bool
    seed: int


@dataclass(frozen=True)
class Seen:
    """What the fleet did while it was watched."""

    case: Case
    ups: int
    downs: int
    fewest: int
    most: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    cases = [
        Case(size, busy, cold_s, spike, seed)
        for spike, size, busy, cold_s, seed in product(
            (False, True), SIZES, LOADS, COLD_STARTS, range(1, options.seeds + 1)
        )
    ]
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as pool:
            seen = list(pool.map(watch, cases))
    else:
        seen = [watch(case) for case in cases]
    report(seen)


def watch(case: Case) -> Seen:
    """One run, from when it has settled."""
    done = run(world(case), OURS)
    watched = [moment for moment in done.moments if moment.at_s >= SETTLE_S]
    changes = [by for at, by in done.changes if at >= SETTLE_S]
    return Seen(
        case,
        ups=sum(by > 0 for by in changes),
        downs=sum(by < 0 for by in changes),
        fewest=min(moment.target for moment in watched),
        most=max(moment.target for moment in watched),
    )


def world(case: Case) -> World:
    """The traffic of a case, and its fleet."""
    engine = served("l4-8b", 64)
    rng = np.random.default_rng([case.seed, 7])
    rate = case.busy / work_s(SimRequest(0, 0.0, *SIZES[case.size]), engine, engine.max_num_seqs)
    spike = (SETTLE_S + 60.0, SETTLE_S + 60.0 + SPIKE_S) if case.spike else (0.0, 0.0)
    end = SETTLE_S + WATCH_S + (AFTER_S if case.spike else 0.0)
    asks = arrivals(case, engine, rate, spike, end, rng)
    return World(
        name=case.size,
        engine=engine,
        slo=Slo(ttft_s=3.0, tpot_s=0.1),
        asks=asks,
        min=1,
        max=16,
        initial=max(round(case.busy / 0.7), 1),
        cold_start_s=case.cold_start_s,
        cold_start_cv=0.1,
        seed=case.seed,
    )


def arrivals(
    case: Case,
    engine: EngineProfile,
    rate: float,
    spike: tuple[float, float],
    end: float,
    rng: np.random.Generator,
) -> list[SimRequest]:
    """Poisson; sizes vary by a third (the standard deviation of a gamma law)."""
    prompt, answer = SIZES[case.size]
    asks: list[SimRequest] = []
    at = 0.0
    while True:
        at += float(rng.exponential(1 / (2 * rate)))
        if at >= end:
            return asks
        if not spike[0] <= at < spike[1] and rng.random() < 0.5:
            continue
        drawn = rng.gamma(9.0, 1 / 9.0, 2) * (prompt, answer)
        tokens = [max(round(float(value)), 1) for value in drawn]
        asks.append(SimRequest(len(asks), at, min(tokens[0], engine.max_model_len // 2), tokens[1]))


def report(seen: list[Seen]) -> None:
    rows = []
    for spike, size, busy, cold_s in product((False, True), SIZES, LOADS, COLD_STARTS):
        group = [
            one
            for one in seen
            if (one.case.spike, one.case.size, one.case.busy, one.case.cold_start_s)
            == (spike, size, busy, cold_s)
        ]
        rows.append(
            (
                "2 x for a minute" if spike else "steady",
                size,
                busy,
                cold_s,
                " ".join(f"{one.ups}/{one.downs}" for one in group),
                f"{min(one.fewest for one in group)}-{max(one.most for one in group)}",
            )
        )
    print_table(
        ("load", "requests", "replicas busy", "cold start, s", "ups/downs by seed", "replicas"),
        rows,
    )
    steady = [one for one in seen if not one.case.spike]
    spikes = [one for one in seen if one.case.spike]
    bars = [
        Bar(
            "steady: most changes in 15 minutes", max(s.ups + s.downs for s in steady), MOST_CHANGES
        ),
        Bar("spike: most ups", max(one.ups for one in spikes), 1),
        Bar("spike: most downs", max(one.downs for one in spikes), 1),
    ]
    print(f"\n{len(steady)} steady runs, {len(spikes)} with a spike")
    print_bars(bars)
    write(
        "scaling_noise",
        {"rows": [list(row) for row in rows], "bars": [bar.as_dict() for bar in bars]},
    )


if __name__ == "__main__":
    exit_by_bars(main)
