"""A client's connection: requests are taken apart, their heads rewritten, their bodies sent on.

One connection upstream is opened for it with its first request and closed with it, so a client
that keeps its connection alive, waits for a `100 Continue` or leaves half-way has exactly the
effect that it would have without the proxy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

import httptools

from forebay.record.heads import for_upstream, own_answer
from forebay.record.proxied_exchange import ProxiedExchange
from forebay.record.server_side import ServerSide, hold
from forebay.wire import LAST_CHUNK, HeadReader, chunk

if TYPE_CHECKING:
    from forebay.record.proxy import Proxy

_MOST_WAITING = 1 << 18  # bytes of a request held while the connection upstream is being opened
_LARGEST_HEAD = 1 << 16  # bytes; twice what nginx takes
_CONNECT_S = 10.0


class ClientSide(HeadReader, asyncio.Protocol):
    """One client.

    Attributes:
        exchanges: its requests without a whole answer, the oldest first.
    """

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self.exchanges: deque[ProxiedExchange] = deque()
        self._proxy = proxy
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._server: ServerSide | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._waiting = bytearray()  # for the connection upstream
        self._head_bytes = 0
        self._again = False  # a new parser is being told about a body that is under way
        self._began_s = 0.0
        self._coming: ProxiedExchange | None = None  # whose request is not here to its end
        self._own = b""  # our own answer, due when the request is here to its end
        self._blind = False  # answers cannot be followed any more: nothing more is recorded

    def pass_on(self, data: bytes) -> None:
        """Bytes of an answer."""
        if self._transport is not None:
            self._transport.write(data)

    def answered(self) -> None:
        """The oldest request has its whole answer."""
        if self.exchanges:
            self.exchanges.popleft().end("ok")
        if self._proxy.closing:
            self.close_if_idle()

    def lose_sight(self) -> None:
        """The answers are no HTTP that can be followed: they go on, unrecorded."""
        self._blind = True
        self._proxy.recorder.totals.out_of_sight += 1
        self._end_all("malformed")

    def hold(self, paused: bool) -> None:
        """Stops reading, or goes on."""
        hold(self._transport, paused)

    def server_lost(self, *, broken: bool) -> None:
        """The connection upstream is gone."""
        self._server = None
        if self._transport is None:
            return
        front = self.exchanges[0] if self.exchanges else None
        if front is not None and not front.begun:
            self._answer(HTTPStatus.BAD_GATEWAY, "The server closed the connection.", "no_answer")
        elif front is None or (front.until_close and not broken):
            if front is not None:
                self.answered()
            self._transport.close()
        else:
            self._end_all()
            self._transport.abort()

    def close_if_idle(self) -> None:
        """Closes, after what was written, unless an answer is on its way."""
        if not self.exchanges and self._coming is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        self._transport = cast(asyncio.Transport, transport)
        self._proxy.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse_what_is_not_http()
        if self.in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD:
                self.abort()

    def eof_received(self) -> None:
        """The client is done with this connection; an answer on its way has nobody to read it."""
        self.abort()

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        if self._server is not None:
            self._server.hold(True)

    def resume_writing(self) -> None:
        """It does again."""
        if self._server is not None:
            self._server.hold(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and with it what it asked for."""
        self._transport = self._parser = None  # the parser and its callbacks are a cycle
        self._proxy.closed(self)
        if self._connecting is not None:
            self._connecting.cancel()
        server, self._server = self._server, None
        if server is not None:
            server.abort()
        self._end_all("stopped" if self._proxy.closing else "cancelled")

    # httptools' side

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self._again:
            super().on_message_begin()
            self._began_s, self._head_bytes = self._proxy.now(), 0

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        if not self._again:
            super().on_url(url)

    def on_headers_complete(self) -> None:
        """Its head is here: sent on, with what is for this connection alone taken out."""
        parser, head = self._parser, self.head
        if parser is None or self._again:
            return
        super().on_headers_complete()
        head.method = parser.get_method()
        head.version = parser.get_http_version()
        head.keep_alive = parser.should_keep_alive()
        tap = None
        if not self._blind:
            tap = self._proxy.recorder.tap(self._began_s, head.method, head.target, head.headers)
        self._coming = exchange = ProxiedExchange(head, tap)
        if not self._blind:
            self.exchanges.append(exchange)
        if head.method == b"CONNECT":
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, "There are no tunnels here.", "no_tunnel")
            return
        self._send(for_upstream(head, self._proxy.target, watched=tap is not None))

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        coming = self._coming
        if coming is None:
            return
        self._send(chunk(body) if coming.head.chunked else body)
        if coming.tap is not None:
            coming.tap.request_body(body)

    def on_message_complete(self) -> None:
        """It is here to its end."""
        if self._parser is None or self._parser.should_upgrade():
            return  # a parser leaves out the body of a request that asks for another protocol
        coming, self._coming = self._coming, None
        if coming is None:
            return
        if coming.head.chunked:
            self._send(LAST_CHUNK)
        if coming.tap is not None:  # after what was written has left
            self._proxy.loop.call_soon(coming.tap.request_done)
        if self._own:
            self._write_own()

    # Its own doing

    def _send(self, data: bytes) -> None:
        """Sends upstream, once there is a connection; drops what is answered here."""
        if self._own:
            return
        if self._server is not None:
            self._server.write(data)
            return
        self._waiting += data
        if self._connecting is None:
            self._connecting = self._proxy.loop.create_task(self._connect())
        if len(self._waiting) > _MOST_WAITING:
            self.hold(True)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_S):
                server = await self._proxy.connect(self)
        except OSError as error:  # a timeout and a certificate that does not fit are such too
            self._proxy.cannot_connect(error)
            message = "The server behind this proxy cannot be reached."
            self._answer(HTTPStatus.BAD_GATEWAY, message, "unreachable")
            return
        self._server = server
        self.hold(False)
        server.write(bytes(self._waiting))
        self._waiting.clear()

    def _answer(self, status: HTTPStatus, message: str, code: str) -> None:
        """Answers in the server's place; once the request is here, or the client would not read."""
        self._own = own_answer(status, message, code)
        self._waiting.clear()
        self.hold(False)
        if self._coming is None or self._coming.head.waits:
            self._write_own()

    def _write_own(self) -> None:
        self._end_all()
        if self._transport is not None:
            self._transport.write(self._own)
            self._transport.close()

    def _end_all(self, outcome: str | None = None) -> None:
        """No request that is under way has an answer to come."""
        for exchange in self.exchanges:
            exchange.end(outcome or ("cut" if exchange.begun else "failed"))
        self.exchanges.clear()

    def _refuse_what_is_not_http(self) -> None:
        self._parser = None
        if self.exchanges or self._blind:
            self.abort()
            return
        self._coming = None
        self._answer(HTTPStatus.BAD_REQUEST, "This is not an HTTP/1.1 request.", "not_http")

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Reads on as if the client had not asked for another protocol.

        Java's client asks for HTTP/2 with every request to a plain URL; servers are free to ignore
        that. The parser stops in such a request, so a new one is told how its body ends.
        """
        if self._own:
            self._write_own()
        if self._coming is None or self._own:
            return
        framing = b"".join(b"%b: %b\r\n" % header for header in self.head.framing)
        self._parser = httptools.HttpRequestParser(self)
        self._again = True
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
        self._again = False
        if rest:
            self.data_received(rest)
