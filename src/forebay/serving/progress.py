"""How far a replica's start has come, told through the cluster's own key-value store."""

from __future__ import annotations

_NAMESPACE = b"forebay"


def report(service: str, phase: str) -> None:
    """Say that a replica of `service` has reached `phase`."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(f"phase:{service}".encode(), phase.encode(), True, namespace=_NAMESPACE)


def reached(service: str) -> str | None:
    """The phase that the service's latest replica has reached; None before the first."""
    from ray.experimental.internal_kv import _internal_kv_get

    value = _internal_kv_get(f"phase:{service}".encode(), namespace=_NAMESPACE)
    return value.decode() if value else None
