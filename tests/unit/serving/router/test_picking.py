"""From Serve's replicas to a choice among them."""

from __future__ import annotations

from random import Random

from router_fakes import FakeReplica, published

from forebay.policies.routing import Prompt, RoutingPolicy, chunk_hashes
from forebay.serving.router import ReplicaPicker
from forebay.serving.router.picking import read_stats

TEXT = Random(1).randbytes(20_000)
LONG = Prompt(len(TEXT), chunk_hashes(TEXT))


class Setting:
    """A picker over a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.policy = RoutingPolicy(0.5, Random(0).random)
        self.picker = ReplicaPicker(self.policy, lambda: self.now)

    def pick(self, replicas: list[FakeReplica], prompt: Prompt = LONG) -> str:
        picked = self.picker.pick(replicas, prompt).replica
        assert picked in replicas
        assert isinstance(picked, FakeReplica)
        return picked.name


def test_no_replica_is_no_answer() -> None:
    assert Setting().picker.pick([], LONG) == (None, 0)


def test_what_replicas_publish_decides() -> None:
    busy = FakeReplica("busy").publish(1, wait_s=3.0)
    assert Setting().pick([busy, FakeReplica("idle").publish(1)]) == "idle"


def test_a_replica_that_has_published_nothing_yet_can_be_picked() -> None:
    busy = FakeReplica("busy").publish(1, wait_s=3.0)
    assert Setting().pick([busy, FakeReplica("new")]) == "new"
    assert Setting().pick([FakeReplica("new")]) == "new"


def test_a_replica_that_does_not_listen_yet_is_passed_over_while_another_does() -> None:
    made = Setting()
    deaf = FakeReplica("deaf", backend_http_endpoint=None).publish(1)
    busy = FakeReplica("busy").publish(1, wait_s=3.0)
    assert made.pick([deaf, busy]) == "busy"
    assert made.pick([deaf]) == "deaf"  # of use to who needs no address
    deaf.backend_http_endpoint = ("10.0.0.2", 9_000)
    assert made.pick([deaf, busy]) == "deaf"


def test_a_draining_replica_is_passed_over() -> None:
    leaving = FakeReplica("leaving").publish(1, draining=True)
    assert Setting().pick([leaving, FakeReplica("busy").publish(1, wait_s=3.0)]) == "busy"


def test_a_prompt_returns_to_its_prefix_until_that_replica_is_gone() -> None:
    made = Setting()
    replicas = [FakeReplica(name).publish(1) for name in ("r1", "r2", "r3")]
    first = made.pick(replicas)
    for sequence in range(2, 5):
        made.now += 1.0
        for replica in replicas:
            replica.publish(sequence)
        assert made.pick(replicas) == first
    rest = [replica for replica in replicas if replica.name != first]
    assert made.pick(rest) != first
    assert first not in repr(made.policy)


def test_the_gate_is_told_what_is_expected_to_be_cached() -> None:
    made = Setting()
    replicas = [FakeReplica("r1").publish(1)]
    assert made.picker.pick(replicas, LONG).cached_tokens == 0
    again = made.picker.pick(replicas, LONG).cached_tokens
    assert 0 < again < LONG.size


def test_all_that_routing_needs_is_read() -> None:
    stats = read_stats(
        {
            **published(7),
            "wait_s": 0.4,
            "overhead_s": 0.1,
            "posts": 12,
            "forebay_prompt_tokens": 900.0,
            "forebay_cached_prompt_tokens": 300.0,
            "context_tokens": 2_048,
        }
    )
    assert (stats.sequence, stats.wait_s, stats.overhead_s, stats.kv_tokens) == (
        7,
        0.4,
        0.1,
        100_000,
    )
    assert (stats.arrivals, stats.prompt_tokens, stats.cached_tokens) == (12.0, 900.0, 300.0)
    assert stats.context_tokens == 2_048
    without = {key: value for key, value in published(1).items() if key != "kv_tokens"}
    assert read_stats(without).kv_tokens == 0
