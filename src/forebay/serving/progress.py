"""What is told through the cluster's own key-value store: the service, and how far a start is."""

from __future__ import annotations

import pickle

from forebay.spec.service import ServiceSpec

_NAMESPACE = b"forebay"
_SPEC = b"service"


def tell_spec(spec: ServiceSpec) -> None:
    """Say what is served on this cluster, of which there is one."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(_SPEC, pickle.dumps(spec), True, namespace=_NAMESPACE)


def the_spec() -> ServiceSpec | None:
    """What is served on this cluster; None while nothing is."""
    from ray.experimental.internal_kv import _internal_kv_get

    value = _internal_kv_get(_SPEC, namespace=_NAMESPACE)
    spec: ServiceSpec | None = pickle.loads(value) if value else None
    return spec


def report(service: str, phase: str) -> None:
    """Say that a replica of `service` has reached `phase`."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(f"phase:{service}".encode(), phase.encode(), True, namespace=_NAMESPACE)


def reached(service: str) -> str | None:
    """The phase that the service's latest replica has reached; None before the first."""
    from ray.experimental.internal_kv import _internal_kv_get

    value = _internal_kv_get(f"phase:{service}".encode(), namespace=_NAMESPACE)
    return value.decode() if value else None
