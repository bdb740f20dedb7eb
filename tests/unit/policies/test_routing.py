"""Routing: the replica with the least predicted seconds to first token."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.routing import ReplicaStats, RoutingPolicy

IDLE = ReplicaStats(sequence=1, wait_s=0.0, prefill_rate=10_000)


def published(**waits: float) -> RoutingPolicy:
    policy = RoutingPolicy(period_s=0.5)
    for name, wait in waits.items():
        policy.publish(name, ReplicaStats(1, wait, 10_000), now=0.0)
    return policy


def test_takes_the_shortest_wait() -> None:
    assert published(a=0.4, b=0.1, c=0.3).choose(["a", "b", "c"], 100, now=0.0) == "b"


def test_a_long_prompt_goes_where_it_is_computed_fastest() -> None:
    policy = RoutingPolicy(period_s=0.5)
    policy.publish("near", ReplicaStats(1, 0.0, prefill_rate=1_000), now=0.0)
    policy.publish("fast", ReplicaStats(1, 0.2, prefill_rate=100_000), now=0.0)
    assert policy.choose(["near", "fast"], 10, now=0.0) == "near"
    assert policy.choose(["near", "fast"], 10_000, now=0.0) == "fast"


def test_a_burst_between_publications_spreads() -> None:
    policy = published(a=0.0, b=0.0, c=0.0, d=0.0)
    picks = Counter(policy.choose(["a", "b", "c", "d"], 500, now=0.01) for _ in range(100))
    assert set(picks.values()) == {25}


def test_a_publication_replaces_the_sends_that_it_has_seen() -> None:
    policy = published(a=0.0, b=0.05)
    for _ in range(20):
        policy.choose(["a"], 1_000, now=0.0)
    assert policy.choose(["a", "b"], 100, now=0.1) == "b"
    policy.publish("a", ReplicaStats(2, 0.0, 10_000), now=1.0)
    policy.publish("b", ReplicaStats(2, 0.05, 10_000), now=1.0)
    assert policy.choose(["a", "b"], 100, now=1.0) == "a"


def test_the_same_publication_twice_changes_nothing() -> None:
    policy = published(a=0.0)
    policy.choose(["a"], 1_000, now=0.0)
    before = policy.predicted_s("a", 0, now=0.9)
    policy.publish("a", IDLE, now=0.9)
    assert policy.predicted_s("a", 0, now=0.9) == before


def test_stale_stats_are_discounted_and_never_a_reason_to_stop() -> None:
    policy = published(a=0.0)
    policy.publish("b", ReplicaStats(1, 0.5, 10_000), now=60.0)
    assert policy.choose(["a", "b"], 100, now=60.0) == "b"
    assert policy.choose(["a"], 100, now=3_600.0) == "a"


def test_a_draining_replica_gets_nothing_new_while_another_is_open() -> None:
    policy = published(a=9.0)
    policy.publish("b", ReplicaStats(1, 0.0, 10_000, draining=True), now=0.0)
    assert policy.choose(["a", "b"], 100, now=0.0) == "a"
    assert policy.choose(["b"], 100, now=0.0) == "b"


def test_no_candidates_is_an_error() -> None:
    with pytest.raises(ValueError, match="no replica"):
        published().choose([], 1, now=0.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5_000)), min_size=1, max_size=60))
def test_always_picks_a_candidate_with_the_least_prediction(
    sends: list[tuple[float, int]],
) -> None:
    policy = published(a=0.2, b=0.0, c=0.1)
    now = 0.0
    for gap, tokens in sends:
        now += gap
        best = min(policy.predicted_s(n, tokens, now) for n in "abc")
        before = {n: policy.predicted_s(n, tokens, now) for n in "abc"}
        assert before[policy.choose(["a", "b", "c"], tokens, now)] == best


def test_replicas_that_are_gone_are_forgotten() -> None:
    policy = published(a=1.0, b=1.0)
    policy.retain(["b"])
    assert "a" not in repr(policy)
