"""Ports for what the service opens beside the ports that its file names."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from itertools import islice
from pathlib import Path

# Above Ray's workers (10002 to 19999), below Serve's replicas (30000 and on).
_CANDIDATES = range(20_000, 30_000)
_KERNELS_OWN = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int, besides: Collection[int] = ()) -> list[int]:
    """So many different ports of which none is in use, nor likely to be in a while.

    The kernel takes the source of every outgoing connection from a range of its own, and a port
    there may be gone before the process that is told of it listens. These are from outside it, as
    far as that leaves any, and none is one of `besides`.

    Raises:
        OSError: there are not so many.
    """
    kernels = _kernels_range()
    # In no order, so that two services that start at once look elsewhere.
    candidates = random.sample(_CANDIDATES, len(_CANDIDATES))
    candidates.sort(key=kernels.__contains__)
    found = list(islice((p for p in candidates if p not in besides and _is_free(p)), count))
    if len(found) < count:
        raise OSError(f"{len(found)} of {count} ports are free from {_CANDIDATES}")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _kernels_range() -> range:
    try:
        low, high = map(int, _KERNELS_OWN.read_text().split())
    except (OSError, ValueError):
        return range(0)
    return range(low, high + 1)
