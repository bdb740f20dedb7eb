"""Plays sessions against a target: an open loop on a schedule, or a closed loop of clients.

Both are bounded in time (every attempt ends within its timeout) and both may be cancelled: they
then drop what is in flight, recorded as ``stopped``, and return what was measured.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import takewhile

from forebay.load.client import Attempt, Exchange, Pool
from forebay.load.plan import Asking, BodyMaker, Message, Spoken, Target
from forebay.load.run.prefetch import Prefetch
from forebay.load.run.progress import Progress, ProgressMeter
from forebay.load.run.retries import RetryPolicy
from forebay.load.timing import Alarm, Pacer
from forebay.measure import Outcome, RequestRecord
from forebay.workload import Session

OnTick = Callable[[Progress], None]
_TICK_S = 1.0
_SWEEP_S = 0.05  # how finely timeouts are noticed
_NOT_SERVED_S = 0.01  # pause of a closed loop's client whose request was not served


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Asking):
    """How sessions are played.

    Attributes:
        target: the endpoint.
        maker: makes the bodies.
        run_id: begins every request's id.
        retries: whether refused requests are sent again.
        class_headers: further headers by traffic class.
        origin_s: second 0 of the schedule on `time.perf_counter`; the moment of starting, if None.
        until_s: no turn is asked after this second of the run, whatever is left of its session.
        on_tick: called once a second with the run's state.
    """

    target: Target
    maker: BodyMaker
    run_id: str = "run"
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    class_headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    origin_s: float | None = None
    until_s: float = float("inf")
    on_tick: OnTick | None = None


@dataclass(slots=True)
class Played:
    """What came of it: records in order of sending, and how late the event loop was at worst."""

    records: list[RequestRecord]
    stall_max_s: float


def stocked(settings: Settings, schedule: Sequence[Session]) -> Prefetch[Attempt]:
    """First turns of the schedule, made as far ahead as memory allows.

    Do it before second 0 is fixed: long prompts take seconds.
    """
    stock = Prefetch(
        len(schedule),
        lambda index: _ask_of(settings, schedule[index], 0, Spoken()),
        lambda ask: len(ask.message.body),
    )
    stock.fill()
    return stock


async def play_open_loop(
    settings: Settings, schedule: Sequence[Session], stock: Prefetch[Attempt] | None = None
) -> Played:
    """Asks each session's first turn at its ``at_s``, whatever became of the others.

    Args:
        settings: how.
        schedule: who and when.
        stock: what `stocked` made of the two, unless it shall be made now.

    Raises:
        ValueError: when the schedule is not in order, or has a session without a time.
    """
    times = [session.at_s for session in schedule]
    due = [at_s for at_s in times if at_s is not None]
    if len(due) != len(times):
        raise ValueError("an open loop needs a time for every session")
    run = _Run(settings)
    asks = stocked(settings, schedule) if stock is None else stock

    def send(index: int) -> None:
        ask = asks.take()
        ask.intended_s = run.origin_s + due[index]
        run.ask(ask)

    def wake_at(at_s: float | None) -> None:
        alarm.set(at_s)

    pacer = Pacer(due, send, run.clock, wake_at)
    alarm = Alarm(asyncio.get_running_loop(), pacer.pump)

    def start() -> None:
        pacer.start(run.origin_s)
        asks.refill(run.call_later)

    run.pool.next_due_s = lambda: pacer.next_due_s
    run.more_to_send = lambda: not pacer.finished
    try:
        return await run.execute(start=start, stop=pacer.stop)
    finally:
        alarm.close()


async def play_closed_loop(
    settings: Settings, stream: Iterator[Session], clients: int, seconds: float
) -> Played:
    """Keeps ``clients`` sessions going for ``seconds``; each begins as another ends.

    What is in flight then is awaited, so the server is quiet afterwards. A request's intended time
    is the instant at which its client became free. A client whose request was not served waits
    10 ms before its next, so that refusals do not become a busy loop.

    Raises:
        ValueError: when ``clients`` is below 1.
    """
    if clients < 1:
        raise ValueError(f"a closed loop needs at least 1 client, not {clients}")
    run = _Run(settings)
    stopped = False
    run.more_to_send = lambda: not stopped and run.elapsed_s() < seconds

    def send() -> None:
        if run.more_to_send():
            ask = run.first_ask(next(stream))
            ask.intended_s = run.clock()
            run.ask(ask)

    def start() -> None:
        for _ in range(clients):
            run.call_at(run.origin_s, send)

    def stop() -> None:
        nonlocal stopped
        stopped = True

    def next_after(served: bool) -> None:
        if served:
            send()
        else:
            run.call_later(_NOT_SERVED_S, send)

    run.on_session_end = next_after
    return await run.execute(start=start, stop=stop)


class _Run:
    """What both loops share: asking, deadlines, records, progress, an orderly end."""

    def __init__(self, settings: Settings) -> None:
        self.clock = time.perf_counter
        self.call_later = asyncio.get_running_loop().call_later
        self.origin_s = 0.0
        self.offered = 0
        self.more_to_send: Callable[[], bool] = lambda: False
        self.on_session_end: Callable[[bool], None] | None = None
        self._settings = settings
        self.pool = Pool(settings.target, self.clock)
        self._meter = ProgressMeter()
        self._next_tick_s = _TICK_S
        self._stall_s = 0.0
        self._jitter = random.Random(0)
        self._in_flight: dict[int, Exchange] = {}  # in order of sending, so of deadline too
        self._pausing: dict[int, Attempt] = {}  # between attempts, or before a next turn
        self._records: list[RequestRecord] = []
        self._stopping = False

    def call_at(self, due_s: float, what: Callable[[], None]) -> None:
        """Calls at a time of the clock, or soon after; a loop may wake a millisecond too early."""
        left_s = due_s - self.clock()
        if left_s > 0:
            self.call_later(left_s, lambda: self.call_at(due_s, what))
        else:
            what()

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.origin_s

    async def execute(self, start: Callable[[], None], stop: Callable[[], None]) -> Played:
        """Starts the loop and waits for its end, or for a cancellation."""
        try:
            await self.pool.prepare(self._settings.timeout_s)
            with _garbage_frozen():
                planned = self._settings.origin_s
                self.origin_s = self.clock() if planned is None else planned
                start()
                while self._in_flight or self._pausing or self.more_to_send():
                    await self._sleep()
                    self._sweep()
        except asyncio.CancelledError:
            pass  # the caller asked for what was measured so far
        finally:
            stop()
            await self._stop()
        self._records.sort(key=lambda record: record.sent_s)
        return Played(self._records, self._stall_s)

    def first_ask(self, session: Session) -> Attempt:
        """A session's first turn, ready to be asked."""
        return _ask_of(self._settings, session, 0, Spoken())

    def ask(self, ask: Attempt) -> None:
        """Asks for the first time, meant for its ``intended_s``."""
        ask.sent_s = self.clock()
        self.offered += 1
        self._send(ask, ask.sent_s)
        leaves = ask.request.cancel_after_s
        if leaves is not None:
            self.call_later(leaves, lambda: self._leave(ask))

    async def _sleep(self) -> None:
        """Sleeps until the next sweep; what the loop wakes too late is a stall."""
        due = self.clock() + _SWEEP_S
        await asyncio.sleep(_SWEEP_S)
        self._stall_s = max(self._stall_s, self.clock() - due)

    def _send(self, ask: Attempt, now: float) -> None:
        ask.attempts += 1
        exchange = Exchange(ask.message, now, self._ended, ask)
        self._in_flight[id(exchange)] = exchange
        ask.current = exchange
        self.pool.submit(exchange)

    def _leave(self, ask: Attempt) -> None:
        """Its user has waited long enough, whichever attempt this is, or between two."""
        now = self.clock()
        if self._pausing.pop(id(ask), None) is not None:
            assert ask.last is not None
            ask.last = (ask.last[0], "cancelled", "", now)
            self._close(ask, served=False, now=now)
        elif ask.current is not None:
            ask.current.give_up("cancelled", "", now)

    def _ended(self, exchange: Exchange, outcome: Outcome, reason: str, now: float) -> None:
        del self._in_flight[id(exchange)]
        ask: Attempt = exchange.owner
        ask.last = (exchange, outcome, reason, now)
        leaves = self._stopping or outcome == "cancelled"
        wait = None if leaves else self._wait_before_retry(ask)
        if wait is not None:
            self._pausing[id(ask)] = ask
            self.call_at(now + wait, lambda: self._retry(ask))
            return
        self._close(ask, served=outcome == "ok", now=now)
        exchange.owner = None

    def _close(self, ask: Attempt, *, served: bool, now: float) -> None:
        self._record(ask)
        if not self._stopping:
            self._go_on(ask, served, now)
        ask.last = ask.current = None  # cycles, and no garbage is collected during a run

    def _wait_before_retry(self, ask: Attempt) -> float | None:
        assert ask.last is not None
        exchange, outcome, _, _ = ask.last
        if exchange.stream is not None and exchange.stream.events:
            return None  # part of the answer was already shown
        return self._settings.retries.wait_s(
            attempts=ask.attempts,
            outcome=outcome,
            status=exchange.status,
            retry_after_s=exchange.retry_after_s,
            forbidden=exchange.no_retry,
            jitter=self._jitter.random(),
        )

    def _retry(self, ask: Attempt) -> None:
        if self._pausing.pop(id(ask), None) is None:
            return  # the run was stopped meanwhile
        headers = {**ask.message.headers, "x-stainless-retry-count": str(ask.attempts)}
        ask.message = replace(ask.message, headers=headers)
        self._send(ask, self.clock())

    def _go_on(self, ask: Attempt, served: bool, now: float) -> None:
        """The session's next turn after its pause, or its end."""
        if not (served and ask.has_next):
            if self.on_session_end is not None:
                self.on_session_end(served)
            return
        think_s = ask.session.turns[ask.turn + 1].think_s
        if now + think_s - self.origin_s >= self._settings.until_s:
            if self.on_session_end is not None:
                self.on_session_end(served)
            return
        self._settings.maker.answered(ask.request, ask.spoken, ask.answer())
        following = _ask_of(self._settings, ask.session, ask.turn + 1, ask.spoken)
        following.intended_s = now + think_s
        self._pausing[id(following)] = following
        self.call_at(following.intended_s, lambda: self._next_turn(following))

    def _next_turn(self, ask: Attempt) -> None:
        if self._pausing.pop(id(ask), None) is not None:
            self.ask(ask)

    def _record(self, ask: Attempt) -> None:
        record = ask.record(self.origin_s)
        self._records.append(record)
        if self._settings.on_tick is not None:
            self._meter.ended(record)

    def _sweep(self) -> None:
        """Ends what is past its deadline, and reports progress."""
        now = self.clock()
        timeout_s = self._settings.timeout_s
        expired = takewhile(lambda e: e.sent_s <= now - timeout_s, self._in_flight.values())
        for exchange in list(expired):
            exchange.give_up("timeout", f"no end within {timeout_s:g} s", now)
        elapsed = now - self.origin_s
        if self._settings.on_tick is not None and elapsed >= self._next_tick_s:
            self._next_tick_s += _TICK_S
            self._settings.on_tick(self._meter.report(elapsed, self.offered, len(self._in_flight)))

    async def _stop(self) -> None:
        """Drops what is in flight or waits for another attempt; a turn not yet asked is not."""
        self._stopping = True
        self.on_session_end = None
        for exchange in list(self._in_flight.values()):
            exchange.give_up("stopped", "the run was stopped", self.clock())
        for ask in self._pausing.values():
            if ask.last is not None:
                self._record(ask)
        self._pausing.clear()
        await self.pool.close()


def _ask_of(settings: Settings, session: Session, turn: int, spoken: Spoken) -> Attempt:
    """A session's turn, ready to be asked."""
    body = settings.maker.ask(session.turns[turn], spoken)
    message = Message(
        body,
        settings.maker.path,
        _headers(settings, session),
        keep_text=turn + 1 < len(session.turns),
        request_id=f"{settings.run_id}-{session.number}-{turn}",
    )
    return Attempt(session, turn, message, spoken, 0.0)


def _headers(settings: Settings, session: Session) -> Mapping[str, str]:
    of_class = settings.class_headers.get(session.class_name)
    of_tenant = settings.tenant_headers.get(session.tenant)
    if of_class or of_tenant:
        return {**settings.headers, **(of_class or {}), **(of_tenant or {})}
    return settings.headers


@contextmanager
def _garbage_frozen() -> Iterator[None]:
    """No collection during a run: one takes tens of ms over a long schedule's objects."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
