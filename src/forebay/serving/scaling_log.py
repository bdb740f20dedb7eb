"""The last scaling decisions of a service and their reasons, in a named actor.

It outlives Serve's controller, which decides, and every replica, which may be asked for it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

_NAMESPACE = "forebay"
_KEPT = 2_000  # records: some MB


class ScalingLog:
    """The last decisions."""

    def __init__(self) -> None:
        self._records: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def add(self, record: dict[str, Any]) -> None:
        """Keep one more."""
        self._records.append(record)

    def last(self, count: int) -> list[dict[str, Any]]:
        """So many of the latest, oldest first."""
        return list(self._records)[-count:]


def scaling_log(service: str) -> Any:
    """The service's log actor, made if there is none."""
    import ray

    return (
        ray.remote(ScalingLog)
        .options(
            name=_name(service),
            namespace=_NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
        )
        .remote()
    )


def end_log(service: str) -> None:
    """End the actor, for a cluster that outlives the service."""
    import ray

    try:
        ray.kill(ray.get_actor(_name(service), _NAMESPACE))
    except ValueError:  # there is none
        pass


def _name(service: str) -> str:
    return f"scaling:{service}"
