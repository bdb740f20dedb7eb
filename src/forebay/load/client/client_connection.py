"""One HTTP/1.1 connection, as an `asyncio.Protocol`.

No task, no queue and no coroutine per request: bytes go from the socket through httptools to the
event counter in one call, so that a streamed token costs a few microseconds.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

import httptools

from forebay.load.client.client_exchange import Exchange
from forebay.wire import Head, HeadReader, TokenStream

if TYPE_CHECKING:
    from forebay.load.client.http_client import Pool

_NUMBER = re.compile(rb"[0-9]+(\.[0-9]+)?")
_LARGEST_BODY = 1 << 20  # bytes of an error or plain response; the rest is dropped


class Connection(HeadReader, asyncio.Protocol):
    """One connection, carrying one request at a time."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self.idle_since = 0.0
        self._pool = pool
        self._clock = pool.clock
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self._stream: TokenStream | None = None
        self._now = 0.0
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def start(self, exchange: Exchange) -> None:
        """Sends the exchange's request; the pool calls this on an idle connection."""
        assert self._transport is not None
        self._exchange = exchange
        exchange.connection = self
        self._transport.write(self._pool.wire.encode(exchange.message))

    def abort(self) -> None:
        """Closes at once; a request still on it is recorded by whoever aborts."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a response."""
        exchange = self._exchange
        if exchange is None or self._parser is None:  # it spoke out of turn: not to be trusted
            self.abort()
            return
        self._now = self._clock()
        if not self._pool.breathing:
            self._pool.breathe_soon()
        if exchange.first_byte_s is None:
            exchange.first_byte_s = self._now
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserError as error:
            exchange.end("malformed", f"not HTTP: {error}", self._now)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, and with it any request on it."""
        self._transport = self._parser = None  # the parser and its callbacks are a cycle
        self._pool.closed(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if exc is None and exchange.status and not self.head.framing:
            exchange.complete(self._clock())  # a body without length ends with the connection
        elif exchange.first_byte_s is None:
            exchange.end("dropped", _why_lost("before any answer", exc), self._clock())
        else:
            exchange.end("cut", _why_lost("half-way", exc), self._clock())

    # httptools' side

    def on_headers_complete(self) -> None:
        """The response's head is here."""
        super().on_headers_complete()
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            return
        exchange.status = parser.get_status_code()
        exchange.no_retry = self.head.value(b"x-should-retry").strip().lower() == b"false"
        exchange.retry_after_s = _retry_after_s(self.head)
        if exchange.status == 200 and self.head.is_event_stream:
            self._stream = exchange.stream = TokenStream(
                keep_times=self._pool.target.keep_token_times,
                keep_text=exchange.message.keep_text,
            )

    def on_body(self, body: bytes) -> None:
        """A piece of the response's body."""
        if self._stream is not None:
            self._stream.feed(body, self._now)
        elif self._exchange is not None and len(self._exchange.body) < _LARGEST_BODY:
            self._exchange.body += body

    def on_message_complete(self) -> None:
        """The response ended."""
        exchange = self._exchange
        if exchange is None or self._transport is None or self._parser is None:
            return
        if exchange.status < 200:  # 100 Continue and its like announce the real one
            return
        reusable = self._parser.should_keep_alive() and bool(self.head.framing)
        self._exchange = self._stream = None
        # Free before the end is told: a closed loop sends its next request from inside that call.
        if reusable and not self._transport.get_write_buffer_size():
            self._pool.idle(self, self._now)
        else:
            self._transport.close()
        exchange.complete(self._now)


def _retry_after_s(head: Head) -> float | None:
    """Seconds, in either form; the milliseconds, being finer, win."""
    for name, per_s in ((b"retry-after-ms", 1000), (b"retry-after", 1)):
        value = head.value(name).strip()
        if _NUMBER.fullmatch(value):  # it may also be a date, which no inference server sends
            return float(value) / per_s
    return None


def _why_lost(when: str, exc: Exception | None) -> str:
    return f"connection closed {when}" + (f": {exc}" if exc is not None else "")
