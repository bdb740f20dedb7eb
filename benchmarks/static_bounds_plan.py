"""What a run of `static_bounds.py` is asked to do, and about how long that takes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from client import ROOT
from static_bounds_offered import NAMES, Offer, with_mix
from static_bounds_sweep import BOUNDS, Bound, sweep_length
from static_bounds_turns import ROUND_PAUSE_S
from tables import print_table, write

PARTS = ("sweep", "rounds", "retries")
FACTORS = (3.0, 4.0)  # x the capacity, in the rounds; the sweep's is the first
ROUND_S, FILLS_S = 20.0, 6.0
MINUTES, MOST_PAIRS = 60.0, 4
# Of each reading in a sweep: seconds in all, and those until the engine has filled up, which takes
# as long as an answer does.
READINGS = {
    "short": (6.0, 2.0),
    "long prompts": (6.0, 2.0),
    "long outputs": (10.0, 5.0),
    "mix": (9.0, 4.0),
    "shift": (8.0, 2.0),
}
START_S = 120.0  # of both servers
STORED = ROOT / "runs" / "static_bounds_sweep.json"

Sweeps = dict[str, dict[str, float]]  # by `sweep_name`, then by bound


@dataclass(frozen=True)
class Plan:
    """What is asked for; each field but the first two is an option of the same name.

    Attributes:
        parts: of `PARTS`.
        names: of the workloads.
        capacity: requests/s of each of them.
        seconds: of a turn in the rounds.
        pairs: of rounds, at most.
        minutes: after which nothing undecided gets more rounds.
        sweep_factors: x the capacity.
        bounds: that are swept.
    """

    parts: Sequence[str]
    names: Sequence[str]
    capacity: Mapping[str, float]
    seconds: float
    pairs: int
    minutes: float
    sweep_factors: Sequence[float]
    bounds: Sequence[Bound]

    @property
    def readings(self) -> list[Offer]:
        """What the sweep offers to each bound."""
        return [
            Offer(name, factor, self.capacity, *READINGS[name])
            for factor in self.sweep_factors
            for name in self.names
        ]

    @property
    def offers(self) -> list[Offer]:
        """What the rounds offer."""
        return [
            Offer(name, factor, self.capacity, self.seconds, FILLS_S)
            for name in self.names
            for factor in FACTORS
        ]

    @property
    def retried(self) -> Offer:
        """What is offered by clients that try again."""
        return Offer("short", FACTORS[0], self.capacity, self.seconds, FILLS_S)

    def show(self) -> None:
        """Each part, and about how long it takes."""
        turn_s = self.seconds + ROUND_PAUSE_S
        readings, turns = sweep_length(self.bounds), 2 * 3 * len(self.offers)
        sweep_s = sum(offer.seconds + ROUND_PAUSE_S for offer in self.readings) * readings
        parts = (
            ("start", 1, START_S),
            ("sweep", readings * len(self.readings), sweep_s),
            ("rounds", turns, turns * turn_s),
            ("retries", 4, 4 * turn_s),
        )
        rows = [(*one[:2], one[2] / 60) for one in parts if one[0] in ("start", *self.parts)]
        print_table(("part", "runs, at most", "minutes, about"), rows)
        print(
            f"\nabout {sum(row[-1] for row in rows):.0f} minutes; what is undecided then gets more "
            f"rounds, for up to {self.minutes:g} minutes in all",
            flush=True,
        )


def asked(doc: str | None) -> Plan:
    """The plan that the command line asks for; ends the process where it cannot be."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--capacity", required=True, help="JSON: requests/s of each workload")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--workloads", default=",".join(NAMES))
    parser.add_argument("--seconds", type=float, default=ROUND_S, help="of a turn in the rounds")
    parser.add_argument("--pairs", type=int, default=MOST_PAIRS, help="of rounds, at most")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="then nothing is added")
    parser.add_argument("--sweep-factors", default=f"{FACTORS[0]:g}", help="x; 3,4 takes twice")
    parser.add_argument("--bounds", default="", help='of the sweep: "in_flight 64,queued_reqs 80"')
    options = parser.parse_args()
    wanted = options.bounds.split(",") if options.bounds else [str(bound) for bound in BOUNDS]
    plan = Plan(
        parts=options.parts.split(","),
        names=options.workloads.split(","),
        capacity=with_mix(json.loads(options.capacity)),
        seconds=options.seconds,
        pairs=options.pairs,
        minutes=options.minutes,
        sweep_factors=[float(factor) for factor in options.sweep_factors.split(",")],
        bounds=[bound for bound in BOUNDS if str(bound) in wanted],
    )
    if fault := fault_of(plan):
        parser.error(fault)
    return plan


def fault_of(plan: Plan) -> str:
    """Why this cannot be done; empty if it can."""
    for given, known in ((plan.parts, PARTS), (plan.names, NAMES)):
        if unknown := sorted(set(given) - set(known)):
            return f"there are {', '.join(known)}; not {', '.join(unknown)}"
    if len(plan.bounds) < 2:
        return f"--bounds: at least two of {', '.join(map(str, BOUNDS))}"
    if plan.seconds <= FILLS_S:
        return f"--seconds: more than the {FILLS_S:g} in which an engine fills up"
    unswept = sorted(set(plan.names) - set(stored()))
    if unswept and "rounds" in plan.parts and "sweep" not in plan.parts:
        return f"nothing is stored of {', '.join(unswept)}: add sweep to --parts"
    return ""


# --- what sweeps found ----------------------------------------------------------------------------


def stored() -> Sweeps:
    """What all sweeps so far found."""
    if not STORED.exists():
        return {}
    found: Sweeps = json.loads(STORED.read_text())
    return found


def store(swept: Sweeps) -> None:
    """Keeps what sweeps found, for runs without one."""
    write(STORED.stem, swept)


def sweep_name(offer: Offer) -> str:
    """The name of an offer's sweep: the workload alone, at the usual factor."""
    return offer.workload if offer.factor == FACTORS[0] else str(offer)
