"""What stands in front of Serve's own HTTP servers, in routers, replicas and proxies.

For each request, Serve makes tasks, contexts and metrics. They cost more than a router's answer, or
a replica's refusal, and serve neither: both are given here, before them (record 0034).
"""

from __future__ import annotations

import logging
from typing import Protocol
from uuid import uuid4

from starlette.middleware import Middleware

from forebay.serving.http import COSTED, App, Message, Receive, Scope, Send, header
from forebay.serving.names import ROUTE_PATH
from forebay.serving.router import ingress

_LOG = logging.getLogger("ray.serve")
_REQUEST_ID = b"x-request-id"
_LONGEST_ID = 128  # bytes
# vLLM's handlers watch for clients that leave, and abort in the engine; Serve watching as well
# costs two more tasks a request.
_UNWATCHED = (b"x-request-disconnect-disabled", b"?1")


class Door(Protocol):
    """A replica's gate, as far as it is asked here."""

    async def at_door(self, scope: Scope, receive: Receive, send: Send, onward: App) -> None:
        """Serve one HTTP request; what is let in goes `onward`, which leads to the gate again."""


_doors: list[Door] = []  # this process's; the last one that was made


def attach(door: Door) -> None:
    """Have `door` asked before Serve, in this process."""
    _doors[:] = [door]


class BeforeServe:
    """A middleware around the HTTP server that Serve starts in a router or a replica."""

    def __init__(self, app: App) -> None:
        """`app` is Serve's."""
        self._app = app
        self._ingress = ingress.IngressApp()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        try:
            await self._serve(scope, receive, send)
        except Exception:
            # Serve logs what it catches, and has uvicorn say nothing of the rest.
            _LOG.exception("request %s failed", _request_id(scope))
            raise

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif scope["path"] == ROUTE_PATH and ingress.has_router():
            await self._ingress(scope, receive, send)
        elif scope["path"] in COSTED and _doors:
            await self._ask(_doors[0], scope, receive, send)
        else:
            await self._to_serve(scope, receive, send)

    async def _ask(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        async def onward(scope: Scope, receive: Receive, _: Send) -> None:
            await self._to_serve(scope, receive, send)

        async def named(message: Message) -> None:
            """Serve names the request in its answers; in those given here nobody else does."""
            if message["type"] == "http.response.start":
                name = (_REQUEST_ID, _request_id(scope).encode("latin-1"))
                message["headers"] = [*message["headers"], name]
            await send(message)

        await door.at_door(scope, receive, named, onward)

    async def _to_serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["headers"] = [*scope["headers"], _UNWATCHED]
        await self._app(scope, receive, send)


def _request_id(scope: Scope) -> str:
    """The name that the client or HAProxy gave the request, or else a new one.

    vLLM repeats it with every token: a long one is no name.
    """
    given = header(scope, _REQUEST_ID)
    if given is None or len(given) > _LONGEST_ID:  # HAProxy gives one only where there are routers
        given = str(uuid4()).encode()
        others = [pair for pair in scope["headers"] if pair[0] != _REQUEST_ID]
        scope["headers"] = [*others, (_REQUEST_ID, given)]
    return given.decode("latin-1")


def middlewares() -> list[Middleware]:
    """What Serve calls for `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`."""
    from forebay.serving.control import LateActivator, in_proxy

    return [Middleware(LateActivator if in_proxy() else BeforeServe)]
