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


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class BodyTooLargeError(Exception):
    """The body is longer than allowed."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of this lower-case name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(receive: Receive, limit: int, within_s: float | None = None) -> bytes:
    """Read a whole body of at most `limit` bytes.

    Args:
        receive: of the connection.
        limit: bytes.
        within_s: seconds in which all must have come that does not come at once.

    Raises:
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
        return await _rest_of_body(message, receive, limit)


async def _rest_of_body(message: Message, receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise BodyTooLargeError
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await receive()


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


def before_shutdown(receive: Receive, leave: Callable[[], Awaitable[None]]) -> Receive:
    """A lifespan's `receive` that awaits `leave` before it hands on that the server stops."""

    async def received() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await leave()
        return message

    return received
