"""Weights over a toy fleet: replicas that serve one request at a time, and an exchange a second."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Mapping
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.fairness import FairQueue
from forebay.policies.quotas import FleetFairness

Tokens = Mapping[str, Mapping[str, float]]
Weights = Mapping[str, float]

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
    places: Mapping[str, set[int]],
    weights: Mapping[str, float],
    charge: bool = True,
    modest: int = 0,
) -> Counter[str]:
    """Tokens of each tenant in the last two thirds, with tenants busy at these replicas.

    One more, `x`, asks everywhere for a twentieth of what there is, `modest` requests a second, and
    is refused a tenth of it.
    """
    rng = random.Random(1)
    size = max(max(where) for where in places.values()) + 1
    fleet = [Replica(weights, rng) for _ in range(size)]
    busy = [[tenant for tenant in sorted(places) if k in places[tenant]] for k in range(size)]
    totals: Counter[str] = Counter()
    fairness = FleetFairness()
    refused = {str(k): dict.fromkeys(busy[k], float(RATE)) for k in range(size)}
    if modest:
        for here in refused.values():
            here["x"] = 5.0 * modest
    for now in range(ROUNDS):
        for one in fleet:
            for _ in range(modest):
                one.send("x", now)
        served = {str(k): one.second(busy[k], now) for k, one in enumerate(fleet)}
        charges = fairness.exchange(served, refused, weights) if charge else {}
        for k, tokens in charges.items():
            most = 8.0 * sum(served[k].values())
            fleet[int(k)].queue.served_elsewhere("batch", tokens, most, now)
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
        ({"a": {0}, "b": ALL}, {"a": 8.0}, {"a": 1, "b": 7}),
        ({"a": {0}, "b": ALL}, {"b": 8.0}, {"a": 8 / 9, "b": 64 / 9}),
        ({"a": {0, 1}, "d": {1, 2}, "b": ALL}, {}, {"a": 1.5, "d": 1.5, "b": 5}),
    ],
)
def test_weights_hold_within_a_tenth_over_the_fleet(
    places: dict[str, set[int]], weights: dict[str, float], fair: dict[str, float]
) -> None:
    totals = play(places, weights)
    assert {t: totals[t] / CAPACITY for t in fair} == pytest.approx(fair, rel=0.1)


@pytest.mark.parametrize(
    ("places", "weights", "fair"),
    [
        ({"a": set(range(6)), "b": ALL}, {}, {"a": 3.8, "b": 3.8}),
        ({"a": {0, 1, 2}, "b": ALL}, {"b": 4.0}, {"a": 1.52, "b": 6.08}),
    ],
)
def test_one_that_asks_for_little_and_lacks_some_of_it_leaves_the_others_shares_alone(
    places: dict[str, set[int]], weights: dict[str, float], fair: dict[str, float]
) -> None:
    totals = play(places, weights, modest=1)
    assert {t: totals[t] / CAPACITY for t in fair} == pytest.approx(fair, rel=0.1)


def test_without_charges_a_tenant_on_one_replica_gets_half_of_what_is_fair() -> None:
    totals = play({"a": {0}, "b": ALL}, {}, charge=False)
    assert totals["a"] / CAPACITY == pytest.approx(0.5, rel=0.1)


def exchanged(times: int, served: Tokens, refused: Tokens, weights: Weights) -> Tokens:
    """The last charges, after so many exchanges that were all alike."""
    fairness, charges = FleetFairness(), {}
    for _ in range(times):
        charges = fairness.exchange(served, refused, weights)
    return charges


def test_equal_service_charges_nobody() -> None:
    served = {"r1": {"a": 140.0, "b": 100.0}, "r2": {"a": 70.0, "b": 110.0}}
    refused = {"r1": {"a": 50.0, "b": 90.0}, "r2": {"a": 90.0, "b": 90.0}}
    assert not any(exchanged(20, served, refused, {}).values())


def test_who_got_more_is_charged_where_the_other_was_refused() -> None:
    served = {"r1": {"a": 50.0, "b": 50.0}, "r2": {"a": 50.0, "b": 50.0}, "r3": {"b": 100.0}}
    refused = {"r1": {"a": 50.0, "b": 50.0}, "r2": {"a": 90.0}, "r3": {"b": 100.0}}
    charges = exchanged(1, served, refused, {})
    assert charges["r1"]["b"] == charges["r2"]["b"] > 0.0
    assert not charges["r3"]
    assert "a" not in charges["r1"]


def test_a_difference_that_stays_is_charged_more_each_time_up_to_all_that_there_is() -> None:
    served = {"r1": {"a": 40.0, "b": 60.0}, "r2": {"b": 100.0}}
    refused = {"r1": {"a": 50.0}, "r2": {"b": 1.0}}
    charged = [exchanged(times, served, refused, {})["r1"]["b"] for times in (1, 2, 100)]
    assert charged[0] < charged[1] < charged[2]
    assert charged[2] == pytest.approx(100.0, rel=0.01)


def test_nobody_is_charged_for_who_gets_all_that_it_asks_for() -> None:
    served = {"r1": {"modest": 10.0, "greedy": 90.0}, "r2": {"greedy": 100.0}}
    refused = {"r1": {"greedy": 300.0}, "r2": {"greedy": 300.0}}
    assert not any(exchanged(10, served, refused, {}).values())


def test_a_single_replica_keeps_the_balance_by_itself() -> None:
    assert not exchanged(10, {"r1": {"a": 10.0, "b": 90.0}}, {"r1": {"a": 9.0, "b": 9.0}}, {})


@given(st.data())
def test_charges_are_above_nothing_and_of_those_who_are_served_there(data: st.DataObject) -> None:
    names, places = st.sampled_from("abc"), st.sampled_from(("r1", "r2", "r3"))
    tokens = st.dictionaries(places, st.dictionaries(names, st.floats(0.0, 1e6)))
    weights = data.draw(st.dictionaries(names, st.floats(0.1, 10.0)))
    fairness, seen = FleetFairness(), set()
    for _ in range(data.draw(st.integers(1, 8))):
        served, refused = data.draw(tokens), data.draw(tokens)
        seen |= {(k, t) for k, here in served.items() for t in here}
        for k, charges in fairness.exchange(served, refused, weights).items():
            assert all(math.isfinite(charge) and charge > 0.0 for charge in charges.values())
            assert all((k, t) in seen for t in charges)


def test_what_was_owed_is_forgotten_once_nobody_is_short() -> None:
    fairness = FleetFairness()
    served, refused = {"r1": {"a": 40.0, "b": 60.0}, "r2": {"b": 100.0}}, {"r1": {"a": 50.0}}
    before = [fairness.exchange(served, refused, {})["r1"]["b"] for _ in range(10)][-1]
    while fairness.exchange(served, {}, {}).get("r1"):  # what was refused fades
        pass
    assert fairness.exchange(served, refused, {})["r1"]["b"] < before / 2
