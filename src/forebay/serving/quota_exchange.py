"""How replicas share the fleet's quotas: each reports to one named actor and gets its caps.

The actor keeps nothing that must survive it (`policies/quota_owner.py`). It belongs to the replica
that made it; when that goes, another one's next report makes a new one.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from forebay.policies.quota_owner import QuotaOwner
from forebay.policies.quotas import LeaseGrant, LeaseRequest, Quota
from forebay.serving.tenancy import Tenancy

_NAMESPACE = "forebay"
_LOOK_S = 0.05  # how finely a report that became urgent is noticed
_ANSWER_S = 1.0


class QuotaActor:
    """The owner, as an actor."""

    def __init__(self) -> None:
        self._owner = QuotaOwner({}, time.monotonic())

    def exchange(self, request: LeaseRequest, quotas: dict[str, Quota]) -> LeaseGrant | None:
        """A replica's report, under the quotas that it has read; its new caps."""
        self._owner.set_quotas(quotas)
        return self._owner.report(request, time.monotonic())


async def exchange_forever(tenancy: Tenancy, service: str) -> None:
    """Report whenever a report is due; without an answer the lease looks after itself."""
    actor: Any = None
    while True:
        await asyncio.sleep(_LOOK_S)
        if not tenancy.quotas:
            continue
        request = tenancy.lease.request(time.monotonic())
        if request is None:
            continue
        try:
            actor = actor if actor is not None else _actor(service)
            grant = await asyncio.wait_for(
                actor.exchange.remote(request, tenancy.quotas), _ANSWER_S
            )
        except Exception:  # dead, away or slow: all are silence, which the lease knows to bear
            actor = None
            continue
        if grant is not None:
            tenancy.lease.granted(grant, time.monotonic())


def _actor(service: str) -> Any:
    import ray

    options = {"name": f"quota:{service}", "namespace": _NAMESPACE, "get_if_exists": True}
    return ray.remote(QuotaActor).options(**options, num_cpus=0).remote()
