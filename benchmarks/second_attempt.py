"""Whether a request that a replica refused should try another one, in virtual time.

The fleet of `routers_in_time.py`, at loads up to and far beyond what it can do: each request is
offered to one replica, or, refused there, to a second one that the router then likes best. What is
gained is goodput; what it costs is asking replicas that refuse too, which real ones pay for in CPU
time (2 ms a refusal, all processes together) just when they have none.

Run as: python benchmarks/second_attempt.py [--loads 0.8,1.5,3]
"""

from __future__ import annotations

import argparse
from typing import Any

from chats import chats, workload

from forebay.simulate import Slo
from routers_in_time import TENANTS, TPOT_S, TTFT_S, Run
from tables import Bar, exit_by_bars, print_bars, print_table, write

_WORTH = 1.02  # of the goodput of one attempt, from which on a second one would pay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=float, default=60.0, help="requests/s of the fleet")
    parser.add_argument("--loads", default="0.8,1.5,3")
    parser.add_argument("--slowed", type=float, default=20.0)
    parser.add_argument("--warm", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    rows = [
        measured(options, isolation, float(load), attempts)
        for isolation in ("shared", "tenant")
        for load in options.loads.split(",")
        for attempts in (1, 2)
    ]
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    gains = [
        two["good/s"] / max(one["good/s"], 1e-9)
        for one, two in zip(rows[::2], rows[1::2], strict=True)
    ]
    bars = [Bar("most that a second attempt gains, x the goodput of one", max(gains), _WORTH)]
    print_bars(bars)
    write("second-attempt", {"rows": rows, "bars": [bar.as_dict() for bar in bars]})


def measured(options: Any, isolation: str, load: float, attempts: int) -> dict[str, Any]:
    """One load, with so many attempts for each request."""
    slo = Slo(TTFT_S * options.slowed, TPOT_S * options.slowed)
    until_s = options.warm + options.seconds
    spec = workload(
        load * options.capacity, until_s, ttft_s=slo.ttft_s, tpot_s=slo.tpot_s, tenants=TENANTS
    )
    run = Run("forebay", options.slowed, attempts=attempts)
    run.play(list(chats(spec, salted=isolation == "tenant")), until_s)
    fates = [fate for fate in run.fates if fate.ask.at_s >= options.warm]
    return {
        "isolation": isolation,
        "load": load,
        "attempts": attempts,
        "requests": len(fates),
        "good/s": sum(map(slo.holds, fates)) / options.seconds,
        "good %": 100 * slo.attainment(fates),
        "refused": sum(fate.outcome == "shed" for fate in fates),
        "asked / requests": run.asked / len(run.fates),
    }


if __name__ == "__main__":
    exit_by_bars(main)
