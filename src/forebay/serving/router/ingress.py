"""The ingress request router: HAProxy asks it where each POST goes.

It answers from memory: the request router beside it holds the replicas and what they published.
A plain ASGI app, since this runs once for every request, the refused ones too.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, Protocol

from forebay.policies.routing import Prompt
from forebay.serving.http import (
    BodyTooLargeError,
    ClientGoneError,
    Receive,
    Scope,
    Send,
    header,
    live_through,
    read_body,
    read_prompt,
    send_response,
)
from forebay.serving.names import CACHED_HEADER, ROUTE_PATH, SESSION_HEADER
from forebay.serving.router.picking import Picked

_DRAIN_CALL_S = 5.0
_HEARING_S, _HEARING_TRIES = 0.1, 15  # together three publications
_CACHED = CACHED_HEADER.decode()
_SESSION = SESSION_HEADER.encode()
# HAProxy's Lua makes of any other status a bare 503 of its own. A replica that it does not know, it
# takes for one of which it has not heard yet, and hands the request to Serve's proxy, where
# `activator.py` refuses it properly and has a replica started.
_NOBODY = b'{"replica_id": "none-is-ready"}'
_TRUNCATED = b"x-body-truncated"
_BODY_LIMIT = 64 * 1024 * 1024  # HAProxy has cut the body already


class Picker(Protocol):
    """The request router, as far as the ingress needs it."""

    def pick(self, prompt: Prompt) -> Picked:
        """The replica for a prompt."""

    def fleet(self) -> list[dict[str, Any]]:
        """What each replica published last."""

    def has_replicas(self) -> bool:
        """Whether there is any."""


_attached: list[Picker] = []  # this process's request router; the last one that Serve made


def attach(picker: Picker) -> None:
    """Called by the request router that Serve made in this process."""
    _attached[:] = [picker]


def has_router() -> bool:
    """Whether Serve has made a request router in this process."""
    return bool(_attached)


def has_replicas() -> bool:
    """Whether the service has a replica, as far as this process knows."""
    return bool(_attached) and _attached[0].has_replicas()


class IngressApp:
    """`POST /internal/route` → the replica for this body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await live_through(receive, send)
            return
        if scope["path"] != ROUTE_PATH:
            await send_response(send, 404, b'{"detail": "not found"}')
            return
        try:
            body = await read_body(receive, _BODY_LIMIT)
        except ClientGoneError:
            return
        except BodyTooLargeError:
            await send_response(send, 413, b'{"detail": "too long"}')
            return
        prompt = read_prompt(body, _full_size(scope), header(scope, _SESSION))
        status, answer = _route(prompt)
        await send_response(send, status, answer)


def _full_size(scope: Scope) -> int | None:
    """The length of a body that HAProxy's buffer cut; None for one that is whole.

    HAProxy's Lua writes "forwarded/whole", if the client sent a Content-Length. It says nothing of
    an upload of unknown length, whose cut shows in the JSON.
    """
    sizes = (header(scope, _TRUNCATED) or b"").partition(b"/")
    return int(sizes[2]) if sizes[2].isdigit() else None


def _route(prompt: Prompt) -> tuple[int, bytes]:
    replica, cached_tokens = _attached[0].pick(prompt) if _attached else (None, 0)
    if replica is None or replica.backend_http_endpoint is None:
        return 200, _NOBODY
    host, port = replica.backend_http_endpoint
    answer = {
        "host": host,
        "port": port,
        "replica_id": replica.replica_id.to_full_id_str(),
        "request_headers": {_CACHED: str(cached_tokens)},
    }
    return 200, json.dumps(answer).encode()


class ForebayIngress:
    """Deployment around `IngressApp`."""

    def __init__(self, server: Any) -> None:
        """`server` is the handle of the replicas' deployment."""
        self._handle = server
        self._handle._init()  # starts Serve's request router for the deployment, in this process

    async def __serve_build_asgi_app__(self) -> IngressApp:
        """The app that Serve mounts on this replica's HTTP port."""
        return IngressApp()

    async def fleet(self) -> list[dict[str, Any]]:
        """What each replica published last, for the live line and for draining.

        Every ingress process hears of all replicas. One that has just started has not yet, and
        must not be taken for an empty fleet.
        """
        for _ in range(_HEARING_TRIES):
            if _attached and (fleet := _attached[0].fleet()):
                return fleet
            await asyncio.sleep(_HEARING_S)
        return []

    async def drain(self) -> None:
        """Tell every replica to refuse what is new and finish what is running."""
        from ray.serve.exceptions import DeploymentUnavailableError

        with contextlib.suppress(DeploymentUnavailableError):  # a fleet of none has drained
            await self._handle.broadcast("begin_drain").results_async(
                timeout_s=_DRAIN_CALL_S, return_exceptions=True
            )
