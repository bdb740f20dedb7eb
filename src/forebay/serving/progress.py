"""What is told through the cluster's own key-value store.

The service, how far a start is, whether its fleet has begun, and the last good version of the
tenants file.
"""

from __future__ import annotations

import logging
import pickle

from forebay.spec.service import ServiceSpec
from forebay.spec.tenants_file import Version

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


def forget_tenants(service: str) -> None:
    """What an earlier run of `service` read in its tenants file is nobody's concern."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(_tenants_key(service), namespace=_NAMESPACE)


def forget_ledger(service: str) -> None:
    """The fleet's ledger has ended with all of its replicas: the next one is a first one."""
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

    It holds hashes of keys, as the file does, and ends with the service.
    """

    def __init__(self, service: str) -> None:
        self._key = _tenants_key(service)

    def read(self) -> Version | None:
        """The version; None where no replica has read a good one, or nobody can say."""
        from ray.experimental.internal_kv import _internal_kv_get

        try:
            value = _internal_kv_get(self._key, namespace=_NAMESPACE)
        except Exception as error:
            _LOG.warning("what others read in the tenants file cannot be asked for (%r)", error)
            return None
        version: Version | None = pickle.loads(value) if value else None
        return version

    def write(self, version: Version) -> bool:
        """Replace it; whether that was done."""
        from ray.experimental.internal_kv import _internal_kv_put

        try:
            _internal_kv_put(self._key, pickle.dumps(version), True, namespace=_NAMESPACE)
        except Exception as error:
            _LOG.warning("the tenants file was read, and could not be shared (%r)", error)
            return False
        return True


def _tenants_key(service: str) -> bytes:
    return f"tenants:{service}".encode()
