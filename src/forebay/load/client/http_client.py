"""The HTTP client: a pool of connections to one target, kept alive and used again."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import ssl
import time
from collections.abc import Callable

from forebay.load.client.client_connection import Connection
from forebay.load.client.client_exchange import Exchange
from forebay.load.plan import Target, WireFormat
from forebay.measure import Outcome

Clock = Callable[[], float]
# A connection that this machine did not give: no descriptor, port, buffer or memory left.
_THIS_MACHINE = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
)
_SOCK_STREAM = 1  # this module needs nothing else of `socket`


class Pool:
    """Connections to one target: as many as are needed at once, each used again while fresh.

    Used inside one event loop; `prepare` first, `close` last.
    """

    def __init__(self, target: Target, clock: Clock) -> None:
        self.target = target
        self.clock = clock
        self.breathing = target.breath_s <= 0  # then it is never begun
        self.wire = WireFormat(target)
        self.next_due_s: Callable[[], float] = lambda: math.inf  # when something is to be sent
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if target.tls else None
        self._address = (target.host, target.port)
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._none_open = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()

    async def prepare(self, timeout_s: float) -> None:
        """Resolves the host once, to the first address that answers, and keeps that connection.

        A target that does not answer within ``timeout_s`` seconds is no error here: each request
        then records its own.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._resolve()
        except OSError:  # a timeout is one too
            pass

    async def _resolve(self) -> None:
        found = await self._loop.getaddrinfo(*self._address, type=_SOCK_STREAM)
        for *_, address in found:
            try:
                connection = await self._connect((str(address[0]), int(address[1])))
            except OSError:
                continue
            self._address = (str(address[0]), int(address[1]))
            self.idle(connection, self.clock())
            return

    def submit(self, exchange: Exchange) -> None:
        """Sends the exchange on an idle connection, or on a new one where none is fresh."""
        oldest = self.clock() - self.target.keepalive_s
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since >= oldest:
                connection.start(exchange)
                return
            connection.abort()
        task = self._loop.create_task(self._connect_and_start(exchange))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def close(self) -> None:
        """Closes everything and waits until it is closed."""
        tasks = list(self._connecting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._idle.clear()
        self._none_open.clear()
        for connection in list(self._open):
            connection.abort()
        if self._open:
            await self._none_open.wait()

    async def _connect(self, address: tuple[str, int]) -> Connection:
        name = self.target.host if self._tls is not None else None
        connecting = self._loop.create_connection(
            lambda: Connection(self), *address, ssl=self._tls, server_hostname=name
        )
        return (await connecting)[1]

    async def _connect_and_start(self, exchange: Exchange) -> None:
        try:
            connection = await self._connect(self._address)
        except OSError as error:
            local = error.errno in _THIS_MACHINE and not isinstance(error, ssl.SSLError)
            outcome: Outcome = "no_socket" if local else "refused_connection"
            exchange.end(outcome, _why_refused(error), self.clock())
            return
        if exchange.ended:  # it timed out meanwhile
            self.idle(connection, self.clock())
        else:
            connection.start(exchange)

    # Called by connections

    def breathe_soon(self) -> None:
        """Pauses for the target's `breath_s` once the bytes at hand are read.

        A server writes the tokens of one engine step to many sockets in a row, and a real-time
        client that wakes for each of them preempts it as often. After a short pause the rest
        is there at once: against a saturated vLLM at 60 requests/s x 48 tokens, a pause of 1 ms
        makes it 1.1 instead of 1.9 ms of CPU a request and a fifth of the switches. The first
        bytes after a silence are stamped as they come, others up to one pause late. No send waits
        for it.
        """
        self.breathing = True
        self._loop.call_soon(self._breathe)

    def _breathe(self) -> None:
        time.sleep(max(0.0, min(self.target.breath_s, self.next_due_s() - self.clock())))
        self.breathing = False

    def opened(self, connection: Connection) -> None:
        """A connection stands."""
        self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()
        if connection in self._idle:
            self._idle.remove(connection)

    def idle(self, connection: Connection, now: float) -> None:
        """A connection finished its request at ``now`` and can take another."""
        connection.idle_since = now
        self._idle.append(connection)


def _why_refused(error: OSError) -> str:
    """The system's own words; asyncio's leave out what went wrong. TLS has errnos of its own."""
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)
