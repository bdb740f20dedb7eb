"""llm-d's published ramp in virtual time: what each policy attains, and with how many replicas.

The load is that of llm-d's autoscaling guide (guides/workload-autoscaling/slo-aware,
benchmark-templates/BENCHMARK.md): 4,000 tokens in, 1,000 out, at 2, 4, 6, 8, 10, 4 and 1 requests/s
for 330 to 360 s each, Qwen3 32B on two H100s, 3 to 8 replicas, TTFT 3 s and TPOT 100 ms; theirs
attains 95.8 % with 5.93 replicas on average, starting in 100 s. Here the engine is the roofline
profile `h100-32b`, arrivals are Poisson, and a replica starts in 120 s. Averages run until the
fleet is back at its floor, as theirs do; replicas count from being asked for to being gone.

`--sizes on-ray` plays what `scaling_ramp_on_ray.py` sends instead: 2,000 in and 150 out on `l4-8b`.

Run as: python benchmarks/scaling_ramp.py [--jobs 1] [--seeds 3] [--quick] [--sizes on-ray]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from forebay.simulate import SimRequest, Slo
from scaling_world import (
    Figures,
    World,
    ours_with,
    plans,
    running,
    search_queue,
    search_ray,
    served,
    show,
    static,
    tuned,
)
from tables import Bar, exit_by_bars, print_bars, print_table, write

STAGES = ((2, 330), (4, 360), (6, 360), (8, 360), (10, 360), (4, 360), (1, 300))
TTFT_S, TPOT_S = 3.0, 0.1
COLD_START_S = 120.0
ATTAINED, REPLICAS = 0.97, 5.9
STABLE_S = 180.0
_HEADROOMS = (0.1, 0.15, 0.2)
THEIRS = ("llm-d's, published", "", "", "95.80", "5.93", "-", "-", "-", "-", "-")


@dataclass(frozen=True)
class Sizes:
    """What is asked for: tokens of a prompt and of an answer, which differs by `spread`.

    Attributes:
        profile: of the engine.
        slots: of an engine: its KV cache holds as many of these requests.
        in_flight: of each replica, that the rivals' targets are searched among.
    """

    profile: str
    prompt: int
    answer: int
    spread: int
    slots: int
    in_flight: tuple[int, ...]


LLM_D = Sizes("h100-32b", 4000, 1000, 100, slots=64, in_flight=(32, 40, 48))
ON_RAY = Sizes("l4-8b", 2000, 150, 15, slots=64, in_flight=(12, 16, 20, 24))
_SIZES = {"llm-d": LLM_D, "on-ray": ON_RAY}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seeds", type=int, default=3, help="of the table; the search has one")
    parser.add_argument("--quick", action="store_true", help="ours and the static ones, one seed")
    parser.add_argument("--sizes", choices=_SIZES, default="llm-d", help="of requests")
    options = parser.parse_args()
    sizes = _SIZES[options.sizes]
    with running(options.jobs) as play:
        ours = [ours_with(headroom, STABLE_S) for headroom in _HEADROOMS]
        fixed = [static(4), static(7)]
        if options.quick:
            show("One seed", play(ramp(1, sizes), [*ours, *fixed]))
            return
        first = ramp(1, sizes)
        searches = {
            "ours": play(first, ours),
            "ray": search_ray(play, first, sizes.in_flight),
            "queue": search_queue(play, first, (1,), sizes.in_flight),
            "clairvoyant": play(first, plans((0.9, 1.0))),
        }
        for found in searches.values():
            show(f"The search of {found[0].policy.name}, seed 1", found)
        us, *others = (tuned(found).policy for found in searches.values())
        chosen = [us, *fixed, *others]
        table = [play(ramp(seed, sizes), chosen) for seed in range(1, options.seeds + 1)]
    report(table, searches)


def ramp(seed: int, sizes: Sizes) -> World:
    """The world of one seed."""
    rng = np.random.default_rng([seed, 5])
    shortest, beyond = sizes.answer - sizes.spread, sizes.answer + sizes.spread
    asks: list[SimRequest] = []
    start = 0.0
    for rate, seconds in STAGES:
        at = start + rng.exponential(1 / rate)
        while at < start + seconds:
            answer = int(rng.integers(shortest, beyond))
            asks.append(SimRequest(len(asks), float(at), sizes.prompt, answer))
            at += rng.exponential(1 / rate)
        start += seconds
    return World(
        name="llm-d's ramp",
        engine=served(sizes.profile, sizes.slots),
        slo=Slo(TTFT_S, TPOT_S),
        asks=asks,
        min=3,
        max=8,
        cold_start_s=COLD_START_S,
        until_s=1800.0,
        seed=seed,
    )


def report(table: list[list[Figures]], searches: dict[str, list[Figures]]) -> None:
    for number, found in enumerate(table, start=1):
        show(f"Seed {number}", found)
    means = [mean(list(column)) for column in zip(*table, strict=True)]
    print(f"\nMeans of {len(table)} seeds")
    print_table(
        ("policy", "settings", "gate", "SLO attained, %", "average replicas"),
        [*(one.row()[:5] for one in means), THEIRS[:5]],
    )
    us, four, seven = means[:3]
    bars = [
        Bar("SLO attained", 100 * us.attainment, 100 * ATTAINED, "%", at_least=True),
        Bar("average replicas", us.average, REPLICAS),
        Bar("a static 7 holds the SLO", 100 * seven.attainment, 100 * ATTAINED, "%", at_least=True),
        Bar("a static 4 does not", 100 * four.attainment, 90.0, "%"),
    ]
    print_bars(bars)
    content: dict[str, Any] = {name: [one.plain() for one in f] for name, f in searches.items()}
    content["means"] = [one.plain() for one in means]
    write("scaling_ramp", {**content, "bars": [bar.as_dict() for bar in bars]})


def mean(found: list[Figures]) -> Figures:
    """The mean over the seeds of one policy's attainment and replicas."""
    return replace(
        found[0],
        attainment=sum(one.attainment for one in found) / len(found),
        average=sum(one.average for one in found) / len(found),
        hours=sum(one.hours for one in found) / len(found),
    )


if __name__ == "__main__":
    exit_by_bars(main)
