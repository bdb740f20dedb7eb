"""The mock server: requests in, decisions carried out, every write at its time.

The hot path is `_write_what_is_due`: from a heap to a socket in a few microseconds a token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from forebay.load.timing import Alarm
from forebay.mock.log import MockLog, RequestLog
from forebay.mock.mock_answers import Answer
from forebay.mock.mock_connection import MockConnection
from forebay.mock.mock_decisions import CHAT_PATHS, Decision, decide, queue_full
from forebay.mock.mock_requests import Request
from forebay.mock.pages import Pulse, page
from forebay.mock.scripts import at_once
from forebay.mock.spec import MockSpec
from forebay.mock.timing import Timetable
from forebay.wire import Target

_BACKLOG = 4096  # connections not yet accepted; the system's somaxconn may allow fewer

# Between two looks at what is due. At 50,000 tokens/s one is due every 20 us, and a wake-up for
# each costs more than the tokens: with this rest 15 instead of 20 us of CPU a token (one core of
# a virtual machine), p50 lateness 0.11 instead of 0.05 ms, p99 0.5 ms as before.
_REST_S = 1e-4


class MockServer:
    """A mock on a socket, inside the running event loop.

    Attributes:
        log: what it did.
        waited: writes that a full socket did not take whole, from clients that read slowly.
    """

    def __init__(self, spec: MockSpec, *, keep_log: bool, keep_requests: bool = False) -> None:
        self.spec = spec
        self.clock: Callable[[], float] = time.perf_counter
        self.log = MockLog(keep=keep_log)
        self.waited = 0
        self._keep_requests = keep_requests
        self._timetable: Timetable[Answer] = Timetable(spec.slots, spec.max_queued)
        self._first_s: float | None = None
        self._created = int(time.time())
        self._open: set[MockConnection] = set()
        self._none_open = asyncio.Event()
        self._closing = False
        self._loop = asyncio.get_running_loop()
        self._alarm: Alarm | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it answers: ``http://host:port``."""
        assert self._listener is not None
        host, port = self._listener.sockets[0].getsockname()[:2]
        return Target(host, port).url

    @property
    def requests(self) -> list[RequestLog]:
        """Requests for tokens in order of arrival, where they are kept."""
        return self.log.entries

    def pulse(self) -> Pulse:
        """The server now."""
        log, timetable = self.log, self._timetable
        return Pulse(
            log.requests, log.prompt_tokens, log.tokens, timetable.running, timetable.queued
        )

    async def start(self) -> None:
        """Listens.

        Raises:
            OSError: the address cannot be had.
        """
        self._listener = await self._loop.create_server(
            lambda: MockConnection(self), self.spec.host, self.spec.port, backlog=_BACKLOG
        )
        self._alarm = Alarm(self._loop, self._write_what_is_due)

    async def close(self) -> None:
        """Ends everything, also what is on its way."""
        self._closing = True
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._open):
            connection.abort()
        if self._open:
            await self._none_open.wait()
        if self._listener is not None:
            await self._listener.wait_closed()
        if self._alarm is not None:
            self._alarm.close()

    # Called by connections

    def connected(self, connection: MockConnection) -> None:
        """A client is here."""
        self._open.add(connection)
        self._none_open.clear()

    def disconnected(self, connection: MockConnection) -> None:
        """A connection is gone, and with it an answer that was on its way."""
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()
        answer = connection.answer
        if answer is not None:
            now = self.clock()
            self._timetable.abandon(answer, now)
            self._end(answer, "stopped" if self._closing else "left", now)
            if not self._closing:
                self._write_what_is_due()

    def received(self, connection: MockConnection, request: Request) -> None:
        """A request is here."""
        if request.path in CHAT_PATHS and request.method == "POST":
            self._generate(connection, request)
        else:
            data = page(request, self.spec, self.pulse())
            answer = connection.answer = Answer(at_once(data, 200), request, connection)
            self._timetable.at_once(answer, request.arrived_s)
        self._write_what_is_due()

    # A request for tokens

    def _generate(self, connection: MockConnection, request: Request) -> None:
        now = request.arrived_s
        entry = RequestLog(
            number=self.log.requests,
            request_id=request.headers.get("x-request-id", ""),
            path=request.path,
            arrived_s=now,
            request=request if self._keep_requests else None,
        )
        self.log.opened(entry)
        since_s = self._since_first_s(now)
        decision = decide(self.spec, request, entry.number, since_s, self._created)
        entry.fault = "" if decision.fault is None else str(decision.fault)
        entry.prompt_tokens = decision.prompt_tokens
        if decision.stall_s:
            self._timetable.freezes.add(now, now + decision.stall_s)
        self._carry_out(decision, request, connection, entry)

    def _since_first_s(self, now: float) -> float:
        """Seconds since the first request, with which the clock of the stalls begins."""
        if self._first_s is None:
            self._first_s = now
            for stall in self.spec.stalls:
                start_s = now + stall.from_s
                self._timetable.freezes.add(start_s, start_s + stall.for_s)
        return now - self._first_s

    def _carry_out(
        self, decision: Decision, request: Request, connection: MockConnection, entry: RequestLog
    ) -> None:
        now = request.arrived_s
        if decision.script is None:
            self._assign(Answer(_NOTHING, request, connection), entry)
            return
        answer = Answer(decision.script, request, connection)
        if not decision.takes_slot:
            self._timetable.at_once(answer, now)
        elif not self._timetable.offer(answer, now):
            answer = Answer(queue_full(self.spec), request, connection)
            self._timetable.at_once(answer, now)
        self._assign(answer, entry)
        if answer.head and self._timetable.freezes.moved(now) == now:
            connection.send(answer.head)
            answer.head = b""

    def _assign(self, answer: Answer, entry: RequestLog) -> None:
        answer.entry = entry
        answer.connection.answer = answer
        entry.status = answer.script.status

    # Writing

    def _write_what_is_due(self) -> None:
        """Writes everything due, and has itself called when the next is."""
        now = self.clock()
        for answer, place, due_s in self._timetable.take(now):
            self._write(answer, place, due_s)
        if self._alarm is not None:
            next_s = self._timetable.next_s()
            self._alarm.set(None if next_s is None else max(next_s, now + _REST_S))

    def _write(self, answer: Answer, place: int, due_s: float) -> None:
        script, entry = answer.script, answer.entry
        data = script.piece(place)
        if answer.head:
            data, answer.head = answer.head + data, b""
        now = self.clock()
        if not answer.connection.send(data):
            return
        if place < script.token_writes and entry is not None:
            self.log.wrote(entry, script.tokens_in(place), due_s, now)
        if place + 1 == len(script.offsets):
            self._end(answer, "closed" if script.closes else "answered", now)
            if answer.closes:
                answer.connection.close()

    def _end(self, answer: Answer, ending: str, now: float) -> None:
        answer.connection.answer = None
        entry = answer.entry
        if entry is not None:
            entry.started_s = answer.started_s
            self.log.closed(entry, ending, now)


_NOTHING = at_once(b"", 0)


@asynccontextmanager
async def mock_server(spec: MockSpec) -> AsyncIterator[MockServer]:
    """A mock inside the running event loop, with everything that it received kept.

    `realtime`, `cores` and `log` are a process's and have no effect here.

    Raises:
        OSError: the address cannot be had.
    """
    server = MockServer(spec, keep_log=True, keep_requests=True)
    try:
        await server.start()
        yield server
    finally:
        await server.close()
