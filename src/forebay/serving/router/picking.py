"""From what Serve tells a router of its replicas to the policy's values, and back to a replica."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from forebay.observability import catalogue
from forebay.policies.routing import Prompt, ReplicaStats, RoutingPolicy


class Picked(NamedTuple):
    """A replica as Serve knows it, None while there is none; tokens expected to be cached there."""

    replica: Any | None
    cached_tokens: int


class ReplicaPicker:
    """Feeds a routing policy and asks it, for one router process.

    Serve gives a replica's stats as a new dictionary when there are new ones, so that between
    publications, and that is for nearly every request, nothing is read twice.
    """

    def __init__(self, policy: RoutingPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._names: set[str] = set()
        self._published: dict[str, Any] = {}

    def pick(self, replicas: Iterable[Any], prompt: Prompt) -> Picked:
        """The replica for a prompt, and the prompt tokens expected to be cached there."""
        now = self._clock()
        by_name = {replica.replica_id.unique_id: replica for replica in replicas}
        if not by_name:
            return Picked(None, 0)
        if by_name.keys() != self._names:
            self._retain(set(by_name))
        for name, replica in by_name.items():
            published = replica.routing_stats
            if published and published is not self._published.get(name):
                self._published[name] = published
                self._policy.publish(name, read_stats(published), now)
        listening = [name for name, one in by_name.items() if one.backend_http_endpoint]
        placement = self._policy.place(listening or list(by_name), prompt, now)
        return Picked(by_name[placement.replica], placement.cached_tokens)

    def _retain(self, names: set[str]) -> None:
        self._names = names
        self._policy.retain(names)
        self._published = {n: p for n, p in self._published.items() if n in names}


def read_stats(published: dict[str, Any]) -> ReplicaStats:
    """What a replica's `record_routing_stats` returned, as far as routing needs it."""
    return ReplicaStats(
        sequence=published["sequence"],
        wait_s=published["wait_s"],
        prefill_rate=published["prefill_rate"],
        overhead_s=published["overhead_s"],
        answer_s=published.get("answer_s", 0.0),
        held_s=published.get("held_s", 0.0),
        ongoing=published.get("ongoing", 0.0),
        draining=published["draining"],
        bytes_per_token=published["bytes_per_token"],
        kv_tokens=published.get("kv_tokens", 0),
        context_tokens=published.get("context_tokens", 0),
        arrivals=published["posts"],
        prompt_tokens=published[catalogue.PROMPT_TOKENS.name],
        cached_tokens=published[catalogue.CACHED_TOKENS.name],
    )
