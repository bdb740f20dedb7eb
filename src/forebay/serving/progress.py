"""What is told through the cluster's own key-value store.

The service, how far a start is, whether its fleet has begun, and the last good version of the
tenants file.
"""

from __future__ import annotations

import logging
import pickle

from forebay.spec.service import ServiceSpec

_NAMESPACE = b"forebay"
_SPEC = b"service"
_LOG = logging.getLogger("ray.serve")


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


def begin(service: str) -> None:
    """The fleet of `service` has not begun: none of its replicas holds anything."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(_ledger_key(service), namespace=_NAMESPACE)


def is_first_ledger(service: str) -> bool:
    """Whether the fleet had no ledger before; whoever asks is one, and the next is not."""
    from ray.experimental.internal_kv import _internal_kv_put

    there_was: bool = _internal_kv_put(_ledger_key(service), b"1", False, namespace=_NAMESPACE)
    return not there_was


def _ledger_key(service: str) -> bytes:
    return f"ledger:{service}".encode()


def report(service: str, phase: str) -> None:
    """Say that a replica of `service` has reached `phase`."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(f"phase:{service}".encode(), phase.encode(), True, namespace=_NAMESPACE)


def reached(service: str) -> str | None:
    """The phase that the service's latest replica has reached; None before the first."""
    from ray.experimental.internal_kv import _internal_kv_get

    value = _internal_kv_get(f"phase:{service}".encode(), namespace=_NAMESPACE)
    return value.decode() if value else None


class SharedTenants:
    """The last good version of a service's tenants file, for replicas that find a wrong one.

    It holds hashes of keys, as the file does, and ends with the cluster.
    """

    def __init__(self, service: str) -> None:
        self._key = f"tenants:{service}".encode()

    def read(self) -> str | None:
        """The file's text; None where no replica has read a good one, or nobody can say."""
        from ray.experimental.internal_kv import _internal_kv_get

        try:
            value = _internal_kv_get(self._key, namespace=_NAMESPACE)
        except Exception as error:
            _LOG.warning("what others read in the tenants file cannot be asked for (%r)", error)
            return None
        return value.decode() if value else None

    def write(self, text: str) -> None:
        """Replace it. Where the cluster's head is away, whoever reads the file next does."""
        from ray.experimental.internal_kv import _internal_kv_put

        try:
            _internal_kv_put(self._key, text.encode(), True, namespace=_NAMESPACE)
        except Exception as error:
            _LOG.warning("the tenants file was read, and could not be shared (%r)", error)
