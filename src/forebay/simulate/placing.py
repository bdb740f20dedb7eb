"""Which replica gets a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from forebay.policies.routing import Prompt, RoutingPolicy
from forebay.simulate.requests_and_outcomes import SimRequest
from forebay.simulate.simulated_replica import GatedReplica, OpenReplica

_TEXT = 4  # bytes of a token, as the router assumes
PERIOD_S = 0.5  # between two publications of a replica, as in production


class Placed(NamedTuple):
    """A replica, and the tokens of the prompt that are expected to be cached there."""

    replica: OpenReplica
    cached_tokens: int = 0


class Router(Protocol):
    """Places requests."""

    def heard(self, replicas: Sequence[OpenReplica], now: float) -> None:
        """Another period has passed; the replicas have gone on until `now`."""

    def place(self, replicas: Sequence[OpenReplica], ask: SimRequest, now: float) -> Placed:
        """One of the replicas, of which there is at least one."""


class ForebayRouter:
    """Production's policy: replicas publish, and what they publish is a period old when read."""

    def __init__(self, random: Callable[[], float], routers: int = 1) -> None:
        """`random` returns values in [0, 1); it is one of so many routers."""
        self._policy = RoutingPolicy(PERIOD_S, random, routers)
        self._pending: list[tuple[str, object]] = []

    def heard(self, replicas: Sequence[OpenReplica], now: float) -> None:
        """Read what was published a period ago; publish."""
        gated = [one for one in replicas if isinstance(one, GatedReplica)]
        self._policy.retain(one.name for one in gated)
        names = {one.name for one in gated}
        for name, stats in self._pending:
            if name in names:
                self._policy.publish(name, stats, now)  # type: ignore[arg-type]
        self._pending = [(one.name, one.publish(now)) for one in gated]

    def place(self, replicas: Sequence[OpenReplica], ask: SimRequest, now: float) -> Placed:
        """Where it costs all least."""
        by_name = {one.name: one for one in replicas}
        prompt = ask.text or Prompt(_TEXT * ask.prompt)
        placement = self._policy.place(list(by_name), prompt, now)
        return Placed(by_name[placement.replica], placement.cached_tokens)


class LeastOngoing:
    """The replica with fewest requests: no worse than Ray's choice among two at random.

    It counts by itself, and hears of ends as the replicas are looked at: as late as Ray's do.
    """

    def heard(self, replicas: Sequence[OpenReplica], now: float) -> None:
        """Nothing is published."""

    def place(self, replicas: Sequence[OpenReplica], ask: SimRequest, now: float) -> Placed:
        """The first of those with fewest."""
        return Placed(min(replicas, key=lambda one: one.ongoing))
