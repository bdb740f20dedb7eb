"""Every static bound on a workload for a short time, to find the best by hindsight.

Eighteen of them take minutes, in which a machine's pace may double, so they cannot be taken side by
side as in the rounds. Every few of them the tightest bound is read again as a reference: it is
never short of work and lets nobody queue, so what it finishes is the machine's pace on this
workload. Each reading counts over the pace at its time. The best are then read once more in the
opposite order.

Whoever sets a bound so loose that first tokens come late has them later still with a looser one: of
each kind they are read from the tightest on, until one has less than two fifths of the best.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from static_bounds_offered import Offer

SEQUENCES = (8, 14, 32, 64, 80, 128)
TOKENS = (300, 1_200, 4_500, 9_000, 13_500, 18_000)
BETWEEN_REFERENCES, READ_AGAIN = 6, 5
COLLAPSED = 0.4  # of the best; a machine that is half as fast as before is no collapse
SEED = 21


@dataclass(frozen=True)
class Bound:
    """One static bound."""

    kind: str
    value: int

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"

    def set_on(self, url: str) -> None:
        """Put it, and no other, in force."""
        none = {"in_flight": None, "queued_reqs": None, "queued_tokens": None}
        request = urllib.request.Request(
            f"{url}/bounds",
            json.dumps({**none, self.kind: self.value}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30):
            pass


BOUNDS = [
    Bound(kind, value)
    for kind, values in (
        ("in_flight", SEQUENCES),
        ("queued_reqs", SEQUENCES),
        ("queued_tokens", TOKENS),
    )
    for value in values
]
REFERENCE = BOUNDS[0]


@dataclass(frozen=True)
class Reading:
    """A bound in the sweep: what was good and what was finished, requests/s, and when."""

    at: float
    bound: Bound
    good: float
    done: float


def sweep(url: str, offer: Offer, bounds: Sequence[Bound]) -> dict[str, float]:
    """Good requests of each bound, over what the reference finishes at that time."""
    readings = first_pass(url, offer, bounds)
    best = ranked(over_pace(readings))[:READ_AGAIN]
    readings += [read(url, offer, bound) for bound in bounds[::-1] if bound in best]
    readings.append(read(url, offer, REFERENCE))
    values = with_collapsed(over_pace(readings), bounds)
    shown = ", ".join(f"{bound} {values[str(bound)]:.2f}" for bound in ranked(values)[:4])
    print(f"  {offer}, good of what {REFERENCE} finishes: {shown}", flush=True)
    return values


def first_pass(url: str, offer: Offer, bounds: Sequence[Bound]) -> list[Reading]:
    """The bounds of each kind from the tightest on, until it collapses; references in between."""
    readings = [read(url, offer, REFERENCE)]
    for _, kind in groupby(bounds, lambda bound: bound.kind):
        best = 0.0
        for bound in kind:
            readings.append(read(url, offer, bound))
            if readings[-1].good < COLLAPSED * best:
                break
            best = max(best, readings[-1].good)
            if all(one.bound != REFERENCE for one in readings[-BETWEEN_REFERENCES:]):
                readings.append(read(url, offer, REFERENCE))
    return [*readings, read(url, offer, REFERENCE)]


def sweep_length(bounds: Sequence[Bound]) -> int:
    """How many readings a sweep of one offer takes, at most."""
    return len(bounds) + len(bounds) // BETWEEN_REFERENCES + READ_AGAIN + 3


def with_collapsed(values: Mapping[str, float], bounds: Sequence[Bound]) -> dict[str, float]:
    """The values, with those that were not read: as good as the last one of their kind."""
    found, last = {}, 0.0
    for bound in bounds:
        last = found[str(bound)] = values.get(str(bound), last)
    return found


def read(url: str, offer: Offer, bound: Bound) -> Reading:
    """One bound for a short time."""
    bound.set_on(url)
    run = offer.play(url, seed=SEED)
    good, done = offer.good_per_s(run.records), offer.done_per_s(run.records)
    return Reading(run.started_at, bound, good, done)


def over_pace(readings: Sequence[Reading]) -> dict[str, float]:
    """Each bound's readings over the reference's pace at their times, on average."""
    references = [one for one in readings if one.bound == REFERENCE]
    at, pace = [one.at for one in references], [one.done for one in references]
    found: dict[str, list[float]] = {}
    for one in readings:
        here = max(float(np.interp(one.at, at, pace)), 1e-9)
        found.setdefault(str(one.bound), []).append(one.good / here)
    return {bound: float(np.mean(values)) for bound, values in found.items()}


def ranked(values: Mapping[str, float]) -> list[Bound]:
    """The bounds that were swept, the best first."""
    known = [bound for bound in BOUNDS if str(bound) in values]
    return sorted(known, key=lambda bound: -values[str(bound)])
