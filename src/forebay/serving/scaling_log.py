"""What must outlive Serve's controller, which decides on scaling: a named actor of the service.

It keeps the last decisions and their reasons, and the floor that somebody has set by hand
(`forebay scale`), until that expires.
"""

from __future__ import annotations

from collections import deque
from typing import Any

_NAMESPACE = "forebay"
_KEPT = 2_000  # records: some MB


class ScalingLog:
    """The last decisions, and the floor set by hand."""

    def __init__(self) -> None:
        self._records: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._floor: tuple[int, float] | None = None

    def add(self, record: dict[str, Any]) -> None:
        """Keep one more."""
        self._records.append(record)

    def set_floor(self, replicas: int, until: float) -> None:
        """At least so many replicas until then (seconds since 1970); 0 replicas: no floor."""
        self._floor = (replicas, until) if replicas else None

    def floor(self) -> tuple[int, float] | None:
        """The floor set last: replicas, and until when; it may have expired."""
        return self._floor

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


class NoServiceError(RuntimeError):
    """The service does not run, or does not scale."""


def set_floor(service: str, replicas: int, until: float, address: str | None) -> None:
    """Set a floor from outside; see `ScalingLog.set_floor`.

    Args:
        service: its name.
        replicas: the floor.
        until: seconds since 1970.
        address: of its Ray cluster; None for the one on this machine.

    Raises:
        NoServiceError: there is no cluster, or no such service in it.
    """
    import ray

    try:
        ray.init(address=address or "auto", log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise NoServiceError(f"no Ray cluster answers: {error}") from error
    try:
        log = ray.get_actor(_name(service), _NAMESPACE)
        ray.get(log.set_floor.remote(replicas, until), timeout=10)
    except ValueError:
        raise NoServiceError(f"no service {service!r} that scales runs on this cluster") from None
    finally:
        ray.shutdown()
