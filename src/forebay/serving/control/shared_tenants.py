"""The last good version of a service's tenants file, for replicas that find a wrong one.

It is in Ray's own key-value store as JSON: a text and when it was put there. What is there and is
no such thing, such as what another version of this software wrote, is none, and the next good
version takes its place.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import asdict
from functools import lru_cache

from forebay.serving.names import KV_NAMESPACE, tenants_key
from forebay.spec.tenants import Version

_LOG = logging.getLogger("ray.serve")


class SharedTenants:
    """A service's, as its replicas share it.

    It holds hashes of keys, as the file does, and ends with the service.
    """

    def __init__(self, service: str) -> None:
        self._key = tenants_key(service)

    def read(self) -> Version | None:
        """The version; None where no replica has read a good one, or nobody can say."""
        from ray.experimental.internal_kv import _internal_kv_get

        try:
            value = _internal_kv_get(self._key, namespace=KV_NAMESPACE)
        except Exception as error:
            _LOG.warning("what others read in the tenants file cannot be asked for (%r)", error)
            return None
        return _version(value) if value else None

    def write(self, version: Version) -> bool:
        """Replace it; whether that was done."""
        from ray.experimental.internal_kv import _internal_kv_put

        value = json.dumps(asdict(version)).encode()
        try:
            _internal_kv_put(self._key, value, True, namespace=KV_NAMESPACE)
        except Exception as error:
            _LOG.warning("the tenants file was read, and could not be shared (%r)", error)
            return False
        return True

    def forget(self) -> None:
        """What an earlier run of the service has read is nobody's concern."""
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(self._key, namespace=KV_NAMESPACE)


@lru_cache(maxsize=1)  # said once, though a replica with a wrong file asks every second
def _version(value: bytes) -> Version | None:
    """What was written; None: not by `SharedTenants.write`."""
    with contextlib.suppress(ValueError):
        match json.loads(value):
            case {"text": str(text), "put_ns": int(put_ns), **others} if not others:
                return Version(text, put_ns)
    _LOG.warning("what others read in the tenants file is in no form that is known here")
    return None
