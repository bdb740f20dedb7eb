"""Replicas are evened out by the answers that they have, not only by what they were sent."""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.routing import Prompt, ReplicaStats, RoutingPolicy
from forebay.policies.routing.load_skew import skew
from forebay.policies.routing.replica_view import ReplicaView

PERIOD_S = 0.5
NAMES = ["a", "b", "c", "d"]


def stats(ongoing: float, sequence: int = 1) -> ReplicaStats:
    return ReplicaStats(sequence, 0.0, 10_000.0, ongoing=ongoing, answer_s=0.2)


def view(ongoing: float | None, unseen: int = 0) -> ReplicaView:
    made = ReplicaView(0.0, PERIOD_S)
    if ongoing is not None:
        made.take(stats(ongoing), 0.0)
    for _ in range(unseen):
        made.send(0.01, 0.1)
    return made


def picks(ongoing: dict[str, float], count: int) -> Counter[str]:
    """Where requests go that come ten a second, while replicas have as many answers as these."""
    policy = RoutingPolicy(PERIOD_S, Random(0).random)
    found: Counter[str] = Counter()
    for number in range(count):
        now = number / 10
        for name, answers in ongoing.items():
            policy.publish(name, stats(answers, int(now / PERIOD_S) + 1), now)
        found[policy.choose(list(ongoing), Prompt(size=2_000), now)] += 1
    return found


def test_a_replica_with_more_answers_than_the_others_gets_fewer_requests() -> None:
    even = picks(dict.fromkeys(NAMES, 20.0), 400)
    assert max(even.values()) < 1.1 * min(even.values())
    crowded = picks({"a": 30.0, "b": 20.0, "c": 20.0, "d": 20.0}, 400)
    assert crowded["a"] < 0.8 * min(crowded[name] for name in "bcd")


def test_one_that_has_just_started_counts_as_without_any() -> None:
    crowd = skew({"old": view(20.0), "new": view(None)}, 1.0)
    assert crowd["new"] < 1.0 < crowd["old"]


def test_one_that_has_told_nothing_yet_fills_up_to_the_others_and_no_further() -> None:
    old = {name: view(20.0, unseen=4) for name in "abc"}
    few, many = (skew({**old, "new": view(None, unseen)}, 1.0) for unseen in (12, 500))
    assert few["new"] < 1.0
    assert many == dict.fromkeys([*"abc", "new"], 1.0)


def test_what_was_sent_since_counts_once_for_each_router() -> None:
    views = {"a": view(20.0, unseen=4), "b": view(20.0)}
    one, two = (skew(views, routers)["a"] for routers in (1.0, 2.0))
    assert 1.0 < one < two


def test_where_answers_end_within_a_publication_what_was_sent_since_says_nothing() -> None:
    crowd = skew({"a": view(0.0, unseen=50), "b": view(0.0)}, 4.0)
    assert crowd == {"a": 1.0, "b": 1.0}


def test_one_answer_more_of_a_few_is_chance() -> None:
    assert skew({"a": view(1.0), "b": view(0.0)}, 1.0)["a"] < 1.2


@given(
    answers=st.lists(st.floats(0, 1e4), min_size=1, max_size=8),
    unseen=st.lists(st.integers(0, 50), min_size=8, max_size=8),
    routers=st.floats(1, 64),
)
def test_they_are_one_in_the_mean_and_who_has_more_has_the_larger(
    answers: list[float], unseen: list[int], routers: float
) -> None:
    views = {str(n): view(a, u) for n, (a, u) in enumerate(zip(answers, unseen, strict=False))}
    crowd = skew(views, routers)
    assert all(value > 0.0 for value in crowd.values())
    assert fmean(crowd.values()) == pytest.approx(1.0)
    for one, mine in enumerate(answers):
        for other, theirs in enumerate(answers):
            if mine >= theirs and unseen[one] >= unseen[other]:
                assert crowd[str(one)] >= crowd[str(other)]
