"""What everybody in the cluster can read of a service, in Ray's own key-value store.

The service itself, how far a start is, and whether its fleet has had a ledger. Values are JSON or
words, never pickles: what another version of this software left there, or somebody else, is taken
for nothing, and whoever can write there has no code run by who reads.
"""

from __future__ import annotations

import logging
from functools import lru_cache

from forebay.serving.names import KV_NAMESPACE, KV_SPEC, ledger_key, phase_key
from forebay.spec.service import ServiceSpec

_LOG = logging.getLogger("ray.serve")


def tell_spec(spec: ServiceSpec) -> None:
    """Say what is served on this cluster, of which there is one."""
    from ray.experimental.internal_kv import _internal_kv_put

    told = spec.model_dump_json(by_alias=True).encode()
    _internal_kv_put(KV_SPEC, told, True, namespace=KV_NAMESPACE)


def the_spec() -> ServiceSpec | None:
    """What is served on this cluster; None while nothing is."""
    from ray.experimental.internal_kv import _internal_kv_get

    value = _internal_kv_get(KV_SPEC, namespace=KV_NAMESPACE)
    return _spec(value) if value else None


@lru_cache(maxsize=1)  # said once, though proxies ask for every request
def _spec(value: bytes) -> ServiceSpec | None:
    try:
        return ServiceSpec.model_validate_json(value)
    except ValueError:
        _LOG.warning("what is said to be served here is in no form that is known here")
        return None


def report(service: str, phase: str) -> None:
    """Say that a replica of `service` has reached `phase` of its start."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(phase_key(service), phase.encode(), True, namespace=KV_NAMESPACE)


def reached(service: str) -> str | None:
    """The phase that the service's latest replica has reached; None before the first."""
    from ray.experimental.internal_kv import _internal_kv_get

    value = _internal_kv_get(phase_key(service), namespace=KV_NAMESPACE)
    return value.decode() if value else None


def forget_start(service: str) -> None:
    """No replica has begun: what is written of a start is of a service before this one."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(phase_key(service), namespace=KV_NAMESPACE)


def is_first_ledger(service: str) -> bool:
    """Whether the fleet had no ledger before; whoever asks is one, and the next is not."""
    from ray.experimental.internal_kv import _internal_kv_put

    there_was: bool = _internal_kv_put(ledger_key(service), b"1", False, namespace=KV_NAMESPACE)
    return not there_was


def forget_ledger(service: str) -> None:
    """The fleet's ledger has ended with all of its replicas: the next one is a first one."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(ledger_key(service), namespace=KV_NAMESPACE)
