"""Weights over a toy fleet: replicas that serve one request at a time, and an exchange a second."""

from __future__ import annotations

import heapq
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import count

import pytest

from forebay.policies.fairness import FairQueue
from forebay.policies.fleet_fairness import elsewhere_charges

RATE = 1000  # tokens/s that a replica serves
ROUNDS = 60  # seconds, an exchange in each


class Replica:
    def __init__(self, weights: Mapping[str, float], rng: random.Random) -> None:
        self.queue = FairQueue({"interactive": 8.0, "batch": 1.0}, weights)
        self.rng = rng
        self.waiting: list[tuple[int, int, str, int]] = []
        self.left = 0.0
        self._arrivals = count()

    def send(self, tenant: str, now: float) -> None:
        tokens = self.rng.randint(20, 80)
        tag = self.queue.tag(tenant, "batch", tokens, now)
        heapq.heappush(self.waiting, (tag, next(self._arrivals), tenant, tokens))

    def second(self, busy: list[str], now: float) -> Counter[str]:
        """Serve for a second while two requests of each busy tenant wait at any time."""
        queued = Counter(entry[2] for entry in self.waiting)
        for tenant in busy:
            for _ in range(2 - queued[tenant]):
                self.send(tenant, now)
        served: Counter[str] = Counter()
        self.left += RATE
        while self.waiting and self.left > 0:
            tag, _, tenant, tokens = heapq.heappop(self.waiting)
            self.queue.started(tag)
            self.left -= tokens
            served[tenant] += tokens
            if tenant in busy:
                self.send(tenant, now)
        return served


def play(
    places: Mapping[str, set[int]], weights: Mapping[str, float], charge: bool = True
) -> Counter[str]:
    """Tokens of each tenant in the last two thirds, with tenants busy at these replicas."""
    rng = random.Random(1)
    size = max(max(where) for where in places.values()) + 1
    fleet = [Replica(weights, rng) for _ in range(size)]
    busy = [[tenant for tenant in sorted(places) if k in places[tenant]] for k in range(size)]
    totals: Counter[str] = Counter()
    for now in range(ROUNDS):
        served = {str(k): one.second(busy[k], now) for k, one in enumerate(fleet)}
        waiting = {str(k): set(busy[k]) for k in range(size)}
        charges = elsewhere_charges(served, waiting, weights) if charge else {}
        for k, tokens in charges.items():
            fleet[int(k)].queue.served_elsewhere("batch", tokens, 3 * RATE, now)
        if now >= ROUNDS // 3:
            for counted in served.values():
                totals.update(counted)
    return totals


CAPACITY = RATE * (ROUNDS - ROUNDS // 3)  # tokens of one replica while they are counted
ALL = set(range(8))


@pytest.mark.parametrize(
    ("places", "weights", "fair"),
    [
        # All that its one replica can give it is less than its share: it gets all of that.
        ({"a": {0}, "b": ALL}, {}, {"a": 1, "b": 7}),
        ({"a": {0, 1}, "b": ALL}, {}, {"a": 2, "b": 6}),
        ({"a": {0}, "b": ALL, "c": ALL}, {}, {"a": 1, "b": 3.5, "c": 3.5}),
        # Its share is less than its replicas could give it: it gets its share.
        ({"a": {0, 1, 2}, "b": ALL}, {"b": 4.0}, {"a": 1.6, "b": 6.4}),
        ({"a": set(range(6)), "b": ALL}, {}, {"a": 4, "b": 4}),
        ({"a": ALL, "b": ALL}, {"a": 3.0}, {"a": 6, "b": 2}),
        ({"a": {0, 1}, "d": {1, 2}, "b": ALL}, {}, {"a": 1.5, "d": 1.5, "b": 5}),
    ],
)
def test_weights_hold_within_a_tenth_over_the_fleet(
    places: dict[str, set[int]], weights: dict[str, float], fair: dict[str, float]
) -> None:
    totals = play(places, weights)
    assert {t: totals[t] / CAPACITY for t in fair} == pytest.approx(fair, rel=0.1)


def test_without_charges_a_tenant_on_one_replica_gets_half_of_what_is_fair() -> None:
    totals = play({"a": {0}, "b": ALL}, {}, charge=False)
    assert totals["a"] / CAPACITY == pytest.approx(0.5, rel=0.1)


def test_equal_traffic_charges_nobody() -> None:
    served = {"r1": {"a": 100.0, "b": 140.0}, "r2": {"a": 90.0, "b": 110.0}}
    waiting = {"r1": {"a", "b"}, "r2": {"a", "b"}}
    assert elsewhere_charges(served, waiting, {}) == {"r1": {}, "r2": {}}


def test_the_charge_is_split_among_the_replicas_where_the_other_competes() -> None:
    served = {"r1": {"a": 50.0, "b": 50.0}, "r2": {"a": 50.0, "b": 50.0}, "r3": {"b": 100.0}}
    waiting = {"r1": {"a", "b"}, "r2": {"a", "b"}, "r3": {"b"}}
    expected = {"r1": {"b": 50.0}, "r2": {"b": 50.0}, "r3": {}}
    assert elsewhere_charges(served, waiting, {}) == expected


def test_who_is_alone_somewhere_is_charged_by_weight() -> None:
    served: dict[str, dict[str, float]] = defaultdict(dict)
    served["r1"], served["r2"] = {"a": 10.0, "b": 40.0}, {"b": 400.0}
    waiting = {"r1": {"a", "b"}, "r2": {"b"}}
    charges = elsewhere_charges(served, waiting, {"b": 4.0})
    assert charges["r1"] == {"b": pytest.approx(400.0)}
