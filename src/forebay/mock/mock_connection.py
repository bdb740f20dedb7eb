"""One connection of a client, as an `asyncio.Protocol`: no task, no coroutine, no framework."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, cast

import httptools

from forebay.mock.mock_events import error_response
from forebay.mock.mock_requests import Request
from forebay.wire import CONTINUE, HeadReader

if TYPE_CHECKING:
    from forebay.mock.mock_answers import Answer
    from forebay.mock.mock_server import MockServer

_LARGEST_BODY = 64 << 20  # bytes
_NO_SOCKET = -1


class MockConnection(HeadReader, asyncio.Protocol):
    """Reads requests one after another and writes what the server says."""

    def __init__(self, server: MockServer) -> None:
        super().__init__()
        self.answer: Answer | None = None  # the one being given
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._socket = _NO_SOCKET
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._size = 0
        self._now = 0.0

    def send(self, data: bytes) -> bool:
        """Writes `data` now; False when the client is gone.

        Straight to the socket: an event loop's transport keeps what it is given until the end of
        its turn, and a burst of tokens would then be stamped up to milliseconds before it leaves.
        What the socket does not take goes through the transport, behind what waits there.
        """
        transport = self._transport
        if transport is None or self._socket == _NO_SOCKET:
            return False
        sent = 0
        if not transport.get_write_buffer_size():
            try:
                sent = os.write(self._socket, data)
            except BlockingIOError:
                pass
            except OSError:  # reset by the client: connection_lost follows
                self.abort()
                return False
        if sent < len(data):
            self._server.waited += 1
            transport.write(data[sent:])
        return True

    def close(self) -> None:
        """Closes in good order, after what was written."""
        self._socket = _NO_SOCKET
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._socket = _NO_SOCKET
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._socket = transport.get_extra_info("socket").fileno()
        self._server.connected(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        if self._parser is None:
            return
        self._now = self._server.clock()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.send(error_response(400, "this is not an HTTP/1.1 request"))
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._socket = _NO_SOCKET
        self._transport = self._parser = None  # the parser and its callbacks are a cycle
        self._server.disconnected(self)

    # httptools' side

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._body, self._size = [], 0

    def on_headers_complete(self) -> None:
        """The request's head is here."""
        super().on_headers_complete()
        if self.head.waits:
            self.send(CONTINUE)

    def on_body(self, body: bytes) -> None:
        """A piece of the request's body."""
        self._size += len(body)
        if self._size <= _LARGEST_BODY:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """A request is here."""
        head, parser = self.head, self._parser
        if parser is None or self._socket == _NO_SOCKET:
            return
        if self.answer is not None:  # requests sent ahead of answers: no client of ours does
            self.abort()
            return
        if self._size > _LARGEST_BODY:
            self.send(error_response(413, f"the body is larger than {_LARGEST_BODY} bytes"))
            self.close()
            return
        request = Request(
            method=parser.get_method().decode("latin-1"),
            path=head.target.partition(b"?")[0].decode("latin-1"),
            headers={
                name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers
            },
            body=b"".join(self._body),
            arrived_s=self._now,
            keep_alive=parser.should_keep_alive(),
        )
        self._server.received(self, request)
