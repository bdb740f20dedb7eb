"""The connection upstream: passes bytes on as they come, and looks at them only afterwards.

Answers are not parsed to be passed on. The parser is a spectator, so nothing that it stumbles over
can touch the traffic, and a streamed token waits for a write and no more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from forebay.record.proxied_exchange import ProxiedExchange
from forebay.wire import HeadReader

if TYPE_CHECKING:
    from forebay.record.client_side import ClientSide

_NO_BODY = frozenset({204, 304})


class ServerSide(HeadReader, asyncio.Protocol):
    """The connection upstream of one client's connection."""

    def __init__(self, client: ClientSide) -> None:
        super().__init__()
        self._client: ClientSide | None = client
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._renew = False  # the parser waits for a body that an answer to HEAD does not have

    def write(self, data: bytes) -> None:
        """Sends a piece of a request."""
        if self._transport is not None:
            self._transport.write(data)

    def hold(self, paused: bool) -> None:
        """Stops reading, or goes on."""
        hold(self._transport, paused)

    def abort(self) -> None:
        """Closes at once: whoever asked is gone."""
        self._client = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer: passed on, then looked at."""
        client = self._client
        if client is None:
            return
        client.pass_on(data)
        if self._parser is not None:
            self._watch(self._parser, data)

    def pause_writing(self) -> None:
        """The server takes no more for now."""
        if self._client is not None:
            self._client.hold(True)

    def resume_writing(self) -> None:
        """It does again."""
        if self._client is not None:
            self._client.hold(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed, or the connection broke."""
        self._transport = self._parser = None  # the parser and its callbacks are a cycle
        client, self._client = self._client, None
        if client is not None:
            client.server_lost(broken=exc is not None)

    # httptools' side

    def on_message_begin(self) -> None:
        """An answer begins."""
        super().on_message_begin()
        if self._exchange is not None:
            self._exchange.begun = True

    def on_headers_complete(self) -> None:
        """An answer's head is here."""
        super().on_headers_complete()
        exchange, parser = self._exchange, self._parser
        if exchange is None or parser is None:
            return
        status = parser.get_status_code()
        if status < 200:  # 100 Continue and its like announce the real one
            return
        if exchange.tap is not None:
            exchange.tap.answer_head(status, self.head)
        if exchange.head.method == b"HEAD":
            self._renew = True
            self._answered()
            return
        exchange.until_close = not self.head.framing and status not in _NO_BODY

    def on_body(self, body: bytes) -> None:
        """A piece of an answer's body."""
        exchange = self._exchange
        if exchange is not None and exchange.tap is not None and not self._renew:
            exchange.tap.answer_body(body)

    def on_message_complete(self) -> None:
        """An answer ended."""
        if self._parser is not None and self._parser.get_status_code() >= 200 and not self._renew:
            self._answered()

    @property
    def _exchange(self) -> ProxiedExchange | None:
        """The oldest request without an answer: the one that this is about."""
        client = self._client
        return client.exchanges[0] if client is not None and client.exchanges else None

    def _watch(self, parser: httptools.HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._parser = None
            if self._client is not None:
                self._client.lose_sight()
            return
        if self._renew:
            self._renew = False
            self._parser = httptools.HttpResponseParser(self)

    def _answered(self) -> None:
        if self._client is not None:
            self._client.answered()


def hold(transport: asyncio.Transport | None, paused: bool) -> None:
    """Stops reading from a connection, or goes on; nothing where it is closing."""
    if transport is None or transport.is_closing():
        return
    if paused:
        transport.pause_reading()
    else:
        transport.resume_reading()
