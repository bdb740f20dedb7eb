"""What a service leaves on a cluster that outlives it, ended."""

from __future__ import annotations

import time

from forebay.serving.cluster_kv import forget_ledger
from forebay.serving.names import ACTOR_NAMESPACE, fleet_actor, scaling_actor

_GONE_S = 5.0  # until a name is free after its actor was ended


def end_log(service: str) -> None:
    """End the log of scaling decisions."""
    _end(scaling_actor(service))


def end_ledger(service: str) -> None:
    """End the ledger of the fleet's quotas."""
    _end(fleet_actor(service))
    forget_ledger(service)


def _end(name: str) -> None:
    """End the actor of this name, and wait until another may have it.

    Raises:
        Exception: whatever Ray raises where its head does not answer.
    """
    import ray

    until = time.monotonic() + _GONE_S
    while time.monotonic() < until:
        try:
            ray.kill(ray.get_actor(name, ACTOR_NAMESPACE))
        except ValueError:  # there is none
            return
        time.sleep(0.05)
