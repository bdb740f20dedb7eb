"""The few ASGI helpers that the gate and the ingress share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_TABLE = "forebay.headers"  # where a scope carries its headers by name, and of which list that is
_ALLOWED = (b"access-control-allow-origin", b"*")
_EXPOSED = (
    b"access-control-expose-headers",
    b"retry-after, retry-after-ms, x-should-retry, x-request-id",
)


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class BodyTooLargeError(Exception):
    """The body is longer than allowed."""


class NoRoomError(Exception):
    """More is being read at once than there is room for."""


class BytesAtOnce:
    """Bytes of bodies that have come in part, bounded over all of them."""

    def __init__(self, most: int) -> None:
        """Hold nothing; at most `most` bytes."""
        self.most = most
        self.held = 0

    def take(self, size: int) -> None:
        """Hold so many more.

        Raises:
            NoRoomError: they would be too many.
        """
        if self.held + size > self.most:
            raise NoRoomError
        self.held += size

    def give_back(self, size: int) -> None:
        """Hold so many fewer."""
        self.held -= size

    def __repr__(self) -> str:
        return f"<BytesAtOnce {self.held} of {self.most}>"


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this lower-case name, or None.

    A request is asked for some ten of its twenty headers, so they are put into a table: once for
    each list of them. A list is never changed, but for by another in its place.
    """
    headers = scope["headers"]
    of, table = scope.get(_TABLE, (None, {}))
    if of is not headers:
        table = dict(reversed(list(headers)))
        scope[_TABLE] = headers, table
    return table.get(name)


async def read_body(
    receive: Receive,
    limit: int,
    within_s: float | None = None,
    at_once: BytesAtOnce | None = None,
) -> bytes:
    """Read a whole body of at most `limit` bytes.

    Args:
        receive: of the connection.
        limit: bytes.
        within_s: seconds in which all must have come that does not come at once.
        at_once: holds what has come while the rest is waited for.

    Raises:
        NoRoomError: `at_once` has no room for it.
        BodyTooLargeError: as soon as more than `limit` bytes have come.
        ClientGoneError: the client disconnected.
        TimeoutError: it took longer.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body = bytes(message.get("body", b""))
        if len(body) > limit:
            raise BodyTooLargeError
        return body
    async with asyncio.timeout(within_s):
        return await _rest_of_body(message, receive, limit, at_once or BytesAtOnce(limit))


async def _rest_of_body(
    message: Message, receive: Receive, limit: int, at_once: BytesAtOnce
) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            if size + len(chunk) > limit:
                raise BodyTooLargeError
            at_once.take(len(chunk))
            size += len(chunk)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)
            message = await receive()
    finally:
        at_once.give_back(size)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` first and then what the client does next."""
    pending = True

    async def receive_again() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_again


async def send_response(
    send: Send,
    status: int,
    body: bytes,
    headers: Headers = (),
    content_type: bytes = b"application/json",
) -> None:
    """Send a complete response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def readable_by_scripts(scope: Scope, send: Send) -> Send:
    """A `send` by which a script of any page may read the answer, as it may vLLM's.

    Browsers tell a script neither status nor `Retry-After` of an answer that does not allow it.
    """
    if header(scope, b"origin") is None:
        return send

    async def send_allowed(message: Message) -> None:
        if message["type"] == "http.response.start":
            allowed = any(name.lower() == _ALLOWED[0] for name, _ in message["headers"])
            more = [_EXPOSED] if allowed else [_ALLOWED, _EXPOSED]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return send_allowed


def before_shutdown(receive: Receive, leave: Callable[[], Awaitable[None]]) -> Receive:
    """A lifespan's `receive` that awaits `leave` before it hands on that the server stops."""

    async def received() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await leave()
        return message

    return received


async def live_through(receive: Receive, send: Send) -> None:
    """Takes part in a lifespan that has nothing to start and nothing to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
