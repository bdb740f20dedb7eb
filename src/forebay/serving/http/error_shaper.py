"""Errors in OpenAI's shape, with a status of their own even when a stream has been promised."""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable
from typing import Any

from forebay.serving.http.asgi import Headers, Message, Send
from forebay.serving.http.errors import (
    event_data,
    retry_headers,
    send_error,
    shaped,
)
from forebay.wire import error_body

# Until who was failed may come again: routers have heard by then. Up to twice that, since all whom
# an engine fails are failed at once.
_AGAIN_S = 1.0
_NEVER = 501  # not implemented: the same the next time
_SSE_ERROR = (b'data: {"error"', b'data: {"object":"error"', b"event: error\n")


class ErrorShaper:
    """A `send` that gives every error OpenAI's shape and holds a response until its first bytes.

    vLLM starts a stream (status 200) before its engine has produced anything; held back, a
    failure that comes first can still be answered with its own status.

    Attributes:
        raw_send: where messages go.
        started: whether the response has begun.
        status: HTTP status that it began with; None before, or where the gate itself said it.
        failed: whether it is a stream that an error has come in.
        withheld: whether nothing more of the app's is sent, whatever it still says; for `fail` to
            say how it ends.
    """

    def __init__(self, send: Send, path: str = "") -> None:
        """Send to `send`; `path` says whose clients read the errors within streams."""
        self.raw_send = send
        self.started = self.failed = self.withheld = False
        self.status: int | None = None
        self._path = path
        self._is_stream = False
        self._last: Message = {}  # that was sent
        self._held: Message | None = None
        self._error: list[bytes] | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """Forward one ASGI message; once started, without a coroutine of its own for each token."""
        if self.withheld:
            return _discard(message)
        if not self.started:
            return self._send_start(message)
        if message.get("body", b"").startswith(_SSE_ERROR):
            message = self._reshaped(message)
        self._last = message
        return self.raw_send(message)

    async def fail(self, status: int, message: str, code: str, headers: Headers) -> None:
        """End the response with an error: by itself, or as the last event of a begun stream.

        There is no place for one in a response that is no stream, or that has ended.
        """
        if not self.started:
            await send_error(self.raw_send, status, message, code, headers=headers)
        elif self._is_stream and self._last.get("more_body", False):
            data = self._event_data(error_body(status, message, code))
            event = b"event: error\ndata: %b\n\n" % data
            await self.raw_send({"type": "http.response.body", "body": event, "more_body": False})

    async def _send_start(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._held = message
            self._error = [] if message["status"] >= 400 else None
        elif message["type"] == "http.response.body" and self._held is not None:
            await self._first_body(self._held, message)
        else:
            await self.raw_send(message)

    async def _first_body(self, start: Message, message: Message) -> None:
        chunk = message.get("body", b"")
        if self._error is not None:
            await self._collect_error(start, message)
            return
        if not chunk and message.get("more_body", False):
            return
        if chunk.startswith(_SSE_ERROR):
            await self._unwrap_sse_error(start, chunk)
            return
        self.started, self.status, self._last = True, start["status"], message
        self._is_stream = any(_is_event_stream(h) for h in start["headers"])
        await self.raw_send(start)
        await self.raw_send(message)

    def _reshaped(self, message: Message) -> Message:
        """An error as a later event of a stream, in its clients' shape; `[DONE]` may follow it."""
        self.failed = True
        head, mark, rest = message["body"].partition(b"data: ")
        payload, end, rest = rest.partition(b"\n")
        data = self._event_data(shaped(_status_in(payload), payload))
        return {**message, "body": head + mark + data + end + rest}

    def _event_data(self, body: bytes) -> bytes:
        """An error body as the data of the next event; only here is the last one looked into."""
        return event_data(self._path, body, self._last.get("body", b""))

    async def _collect_error(self, start: Message, message: Message) -> None:
        assert self._error is not None
        self._error.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = shaped(start["status"], b"".join(self._error))
        await self._send_error(start, start["status"], body)

    async def _unwrap_sse_error(self, start: Message, chunk: bytes) -> None:
        """An error as the first event of a stream becomes a plain error response."""
        payload = chunk.partition(b"data: ")[2].split(b"\n", 1)[0]
        status = _status_in(payload)
        await self._send_error(start, status, shaped(status, payload))

    async def _send_error(self, start: Message, status: int, body: bytes) -> None:
        self.started, self.status = True, status
        dropped = {b"content-length", b"content-type", b"transfer-encoding"}
        headers = [h for h in start["headers"] if h[0].lower() not in dropped]
        if status >= 500 and status != _NEVER and not any(_is_retry_after(h) for h in headers):
            headers += retry_headers(_AGAIN_S * (1.0 + random.random()))
        await self.raw_send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    *headers,
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                ],
            }
        )
        await self.raw_send({"type": "http.response.body", "body": body, "more_body": False})
        self.raw_send = _discard  # what the stream still says after its error is not for anyone


def _is_retry_after(header: tuple[bytes, bytes]) -> bool:
    return header[0].lower() == b"retry-after"


def _is_event_stream(header: tuple[bytes, bytes]) -> bool:
    return header[0].lower() == b"content-type" and header[1].startswith(b"text/event-stream")


async def _discard(_: Message) -> None:
    return


def _status_in(payload: bytes) -> int:
    """The HTTP status that vLLM writes as `code` into an error event; 500 when there is none."""
    try:
        data: Any = json.loads(payload)
    except ValueError:
        return 500
    error = data.get("error", data) if isinstance(data, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500
