"""How long HAProxy has carried the requests that it carries now: its `show sess`.

A worker of before the fleet last changed has left its socket to the next one, and is not asked.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CALL_S = 5.0
_AGE_UNITS_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}  # HAProxy's: "1m4s"


class OwnProxies:
    """Those of a Ray that this process has started, all on this machine."""

    def __init__(self, folder: Path) -> None:
        """Their sockets are in subfolders of `folder`."""
        self._folder = folder

    def ages(self, nodes: Iterable[str]) -> list[int]:
        """Seconds since the beginning of each request; all are on this machine, whatever `nodes`.

        Raises:
            OSError: one does not answer.
        """
        return [age for path in self._folder.glob("*/admin.sock") for age in ages_at(path)]


class JoinedProxies:
    """Those of a cluster that ran before: each is asked on its own node, by a task of Ray's.

    A node that cannot be asked has nobody that could be waited for: it has died, or its HAProxy is
    another user's.
    """

    def __init__(self) -> None:
        """Ray exports the task once for each time that it is made."""
        import ray

        self._ask = ray.remote(num_cpus=0, max_retries=0)(_ages_on)

    def ages(self, nodes: Iterable[str]) -> list[int]:
        """Seconds since the beginning of each request that the proxies of these nodes carry.

        Raises:
            GetTimeoutError: a node does not answer in time.
        """
        import ray
        from ray.exceptions import GetTimeoutError

        asked = [self._ask.options(scheduling_strategy=_on(node)).remote(node) for node in nodes]
        ages: list[int] = []
        for answer in asked:
            try:
                ages += ray.get(answer, timeout=_CALL_S)
            except GetTimeoutError:
                raise
            except Exception:  # Ray raises many kinds, as where a node has died
                continue
        return ages


def _on(node: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node, soft=False)


def _ages_on(node: str) -> list[int]:
    """What the proxy of this node, of that id, carries; it has its sockets where Serve says."""
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_SOCKET_PATH

    usual = Path(RAY_SERVE_HAPROXY_SOCKET_PATH)
    try:
        return ages_at(usual.parent / node / usual.name)
    except OSError:
        return []


def ages_at(admin: Path) -> list[int]:
    """Seconds since the beginning of each request that clients have with this HAProxy.

    Raises:
        OSError: it does not answer.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(_CALL_S)
        asking.connect(str(admin))
        asking.sendall(b"show sess\n")
        with asking.makefile() as answer:
            ages = re.findall(r" fe=http_frontend .* age=(\w+)", answer.read())
    return [
        sum(int(count) * _AGE_UNITS_S[unit] for count, unit in re.findall(r"(\d+)([dhms])", age))
        for age in ages
    ]
