"""Ray Serve as far as the platform asks it: its status, and handles that are called in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any


class Handle:
    """Of an actor or a deployment: each method is called as `handle.method.remote(...)`."""

    def __init__(self, **methods: Callable[..., Any]) -> None:
        for name, method in methods.items():
            setattr(self, name, SimpleNamespace(remote=method))


def serve_status(
    replicas: dict[str, dict[str, int]] | None, proxies: Iterable[str] = ()
) -> SimpleNamespace:
    """What `serve.status()` says of a service named s: replicas by deployment and state.

    None: Serve does not know it.
    """
    told = {name: SimpleNamespace(replica_states=of) for name, of in (replicas or {}).items()}
    applications = {} if replicas is None else {"s": SimpleNamespace(deployments=told)}
    return SimpleNamespace(applications=applications, proxies=dict.fromkeys(proxies, "HEALTHY"))
