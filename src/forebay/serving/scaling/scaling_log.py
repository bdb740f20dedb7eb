"""What must outlive Serve's controller, which decides on scaling: a named actor of the service.

It keeps the last decisions and their reasons, what the policy knows, the floor that somebody has
set by hand (`forebay scale`) until that expires, and when somebody last asked a fleet of none.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from forebay.serving.head_actors import on_the_head
from forebay.serving.names import ACTOR_NAMESPACE, scaling_actor

_KEPT = 2_000  # records: some MB
_FORGOTTEN_S = 3_600.0  # who was asked for so long ago and has told nothing will not
_NEWS_S = 3.0  # until the policy has heard of who asks, and HAProxy of the replica
_LEAST_SHARE = 0.1  # of a cold start, after which to look again for one that is overdue


@dataclass(frozen=True, slots=True)
class Orders:
    """What the policy is told beside demand.

    Attributes:
        floor: set by hand: replicas, and until when (seconds since 1970); it may have expired.
        activated_at: when somebody last asked while no replica was there; None: never.
        memory: what the policy knew last, where that was asked for.
        since: when the log that says so began, seconds since 1970; 0: nobody has said anything.
    """

    floor: tuple[int, float] | None = None
    activated_at: float | None = None
    memory: bytes | None = None
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the fleet is, as the policy said last.

    Attributes:
        ready, target: replicas.
        cold_start_s: of one, that most do not exceed.
    """

    ready: int
    target: int
    cold_start_s: float


class ScalingLog:
    """The last decisions, what led to them, and what was ordered."""

    def __init__(self) -> None:
        self._since = time.time()
        self._records: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._latest: dict[str, Any] | None = None
        self._floor: tuple[int, float] | None = None
        self._activated_at: float | None = None
        self._memory: bytes | None = None
        self._sizes: Sizes | None = None
        self._asked: deque[float] = deque()  # when, of replicas that have not told their start

    def tick(self, record: dict[str, Any], keep: bool, memory: bytes, sizes: Sizes) -> None:
        """A decision was made: its record, to be kept or until the next, and what is known now."""
        self._latest = record
        if keep:
            self._records.append(record)
            self._note_asked(record["target"] - record["before"], record["at"])
        self._memory, self._sizes = memory, sizes

    def _note_asked(self, grown: int, at: float) -> None:
        while self._asked and at - self._asked[0] > _FORGOTTEN_S:
            self._asked.popleft()
        self._asked.extend([at] * max(grown, 0))
        for _ in range(min(-grown, len(self._asked))):
            self._asked.pop()

    def set_floor(self, replicas: int, until: float) -> None:
        """At least so many replicas until then (seconds since 1970); 0 replicas: no floor."""
        self._floor = (replicas, until) if replicas else None

    def orders(self, *, with_memory: bool = False) -> Orders:
        """What the policy is to know."""
        memory = self._memory if with_memory else None
        return Orders(self._floor, self._activated_at, memory, self._since)

    def activate(self, assumed_s: float) -> float:
        """Somebody asks and no replica is there: seconds after which there should be one.

        `assumed_s` is how long a start takes, where none has been seen.
        """
        now = time.time()
        cold_s = assumed_s if self._sizes is None else self._sizes.cold_start_s
        starting = self._sizes is not None and self._sizes.target > 0 and len(self._asked) > 0
        left_s = _NEWS_S + cold_s - (now - self._asked[-1] if starting else 0.0)
        self._activated_at = now
        return max(left_s, _LEAST_SHARE * cold_s)

    def started(self, process_began: float) -> float | None:
        """A replica whose process began then is ready: seconds that it waited for its node.

        None where nobody saw it being asked for.
        """
        if not self._asked:
            return None
        return max(process_began - self._asked.popleft(), 0.0)

    def last(self, count: int) -> list[dict[str, Any]]:
        """So many of the decisions kept, oldest first, and the very last, kept or not."""
        kept = list(self._records)[-count:]
        return kept if self._latest in kept[-1:] or self._latest is None else [*kept, self._latest]


def scaling_log(service: str) -> Any:
    """The service's log actor, made if there is none."""
    return on_the_head(ScalingLog, scaling_actor(service), ACTOR_NAMESPACE)


async def node_seconds(service: str, process_began: float) -> float | None:
    """See `ScalingLog.started`; None also where the log does not answer."""
    try:
        waited: float | None = await scaling_log(service).started.remote(process_began)
    except Exception:  # a figure is lost, the replica is ready all the same
        return None
    return waited
