"""Ray Serve's request router, deciding by `policies/routing`.

One instance lives in each ingress process. Serve feeds it the replicas and what they publish
(`record_routing_stats`); the ingress asks it directly, since HAProxy carries the request.

Serve ships this class by value, so it must not keep state in this module: each process would see
two of it. The instance registers itself in `ingress.py`, which every process imports by name.
"""

from __future__ import annotations

import random
import time
from typing import Any

from ray.serve.request_router import FIFOMixin, RequestRouter

from forebay.policies.routing import Prompt, RoutingPolicy
from forebay.serving.names import STATS_PERIOD_S
from forebay.serving.router.picking import Picked, ReplicaPicker

_UNKNOWN = Prompt(size=0)


class ForebayRequestRouter(FIFOMixin, RequestRouter):
    """Least predicted seconds to first token."""

    def initialize_state(self, routers: int = 1, **kwargs: Any) -> None:
        """Called by Serve once, after construction, with `request_router_kwargs`."""
        from forebay.serving.router import ingress

        # Seeded by the system: routers that drew the same numbers would choose the same replicas.
        policy = RoutingPolicy(STATS_PERIOD_S, random.Random().random, routers)
        self._picker = ReplicaPicker(policy, time.monotonic)
        ingress.attach(self)

    def pick(self, prompt: Prompt) -> Picked:
        """The replica for a prompt."""
        return self._picker.pick(self.curr_replicas.values(), prompt)

    async def choose_replicas(
        self, candidate_replicas: list[Any], pending_request: Any = None
    ) -> list[list[Any]]:
        """Serve's own path to the same decision, for callers with a deployment handle."""
        replica = self._picker.pick(candidate_replicas, _UNKNOWN).replica
        return [[replica]] if replica is not None else []

    def fleet(self) -> list[dict[str, Any]]:
        """What each replica published last."""
        return [dict(r.routing_stats) for r in self.curr_replicas.values() if r.routing_stats]

    def has_replicas(self) -> bool:
        """Whether there is any."""
        return bool(self.curr_replicas)
