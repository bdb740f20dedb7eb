"""Ray Serve's request router, deciding by `policies/routing`.

One instance lives in each ingress process. Serve feeds it the replicas and what they publish
(`record_routing_stats`); the ingress asks it directly, since HAProxy carries the request.

Serve ships this class by value, so it must not keep state in this module: each process would see
two of it. The instance registers itself in `ingress.py`, which every process imports by name.
"""

from __future__ import annotations

import time
from typing import Any

from ray.serve.request_router import FIFOMixin, RequestRouter

from forebay.policies.routing import ReplicaStats, RoutingPolicy
from forebay.serving.environment import STATS_PERIOD_S

_DEFAULT_BYTES_PER_TOKEN = 4.0


class ForebayRequestRouter(FIFOMixin, RequestRouter):
    """Least predicted seconds to first token."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Called by Serve once, after construction."""
        from forebay.serving import ingress

        self._policy = RoutingPolicy(STATS_PERIOD_S)
        ingress.attach(self)

    def pick(self, prompt_bytes: int) -> Any | None:
        """The replica for a prompt of about this many bytes; None while there is none."""
        return self._pick(list(self.curr_replicas.values()), prompt_bytes)

    async def choose_replicas(
        self, candidate_replicas: list[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        """Serve's own path to the same decision, for callers with a deployment handle."""
        replica = self._pick(candidate_replicas, 0)
        return [[replica]] if replica is not None else []

    def _pick(self, replicas: list[Any], prompt_bytes: int) -> Any | None:
        if not replicas:
            return None
        now = time.monotonic()
        by_id = {replica.replica_id.unique_id: replica for replica in replicas}
        ratio = _DEFAULT_BYTES_PER_TOKEN
        for name, replica in by_id.items():
            if stats := replica.routing_stats:
                ratio = stats["bytes_per_token"]
                self._policy.publish(name, _read(stats), now)
        self._policy.retain(by_id)
        return by_id[self._policy.choose(list(by_id), round(prompt_bytes / ratio), now)]

    def fleet(self) -> list[dict[str, Any]]:
        """What each replica published last."""
        return [dict(r.routing_stats) for r in self.curr_replicas.values() if r.routing_stats]


def _read(stats: dict[str, Any]) -> ReplicaStats:
    return ReplicaStats(
        stats["sequence"], stats["wait_s"], stats["prefill_rate"], stats["draining"]
    )
