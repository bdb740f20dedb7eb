"""Runs a load: an open loop on a schedule, or a closed loop of clients.

Both are bounded in time (every request ends within its timeout) and both may be cancelled: they
then drop what is in flight, recorded as ``cut`` for `CLIENT_STOPPED`, and return what was measured.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from forebay.load.client import Pool
from forebay.load.exchange import Exchange
from forebay.load.pacer import Pacer
from forebay.load.plan import PlannedRequest, Target
from forebay.load.progress import Progress, ProgressMeter
from forebay.measure.records import Outcome, RequestRecord

OnTick = Callable[[Progress], None]
CLIENT_STOPPED = "client stopped"
_TICK_S = 1.0
_SWEEP_S = 0.05  # how finely timeouts are noticed


async def run_open_loop(
    target: Target,
    schedule: Sequence[PlannedRequest],
    *,
    timeout_s: float,
    on_tick: OnTick | None = None,
) -> list[RequestRecord]:
    """Sends each request at its ``at_s``, whatever became of the others; records in send order.

    Args:
        target: the endpoint.
        schedule: requests in ascending order of ``at_s``.
        timeout_s: seconds from a request's send after which it is given up.
        on_tick: called once a second with the run's state.

    Raises:
        ValueError: when the schedule is not in order.
    """
    run = _Run(target, timeout_s, on_tick)

    def send(index: int) -> None:
        run.send(schedule[index], run.origin_s + schedule[index].at_s)

    pacer = Pacer([p.at_s for p in schedule], send, run.clock, run.call_later)
    run.more_to_send = lambda: not pacer.finished
    return await run.execute(start=lambda: pacer.start(run.origin_s), stop=pacer.stop)


async def run_closed_loop(
    target: Target,
    make_request: Callable[[int], PlannedRequest],
    clients: int,
    duration_s: float,
    *,
    timeout_s: float = 60.0,
    on_tick: OnTick | None = None,
) -> list[RequestRecord]:
    """Keeps ``clients`` requests in flight for ``duration_s``; each is sent as another ends.

    Requests still in flight then are awaited, so the server is quiet afterwards. A request's
    intended time is the instant at which its client became free. A client whose request was not
    served waits 10 ms before its next, so that refusals do not become a busy loop.

    Args:
        target: the endpoint.
        make_request: the request with a given index.
        clients: requests in flight, 1 or more.
        duration_s: how long new requests are sent.
        timeout_s: seconds from a request's send after which it is given up.
        on_tick: called once a second with the run's state.

    Raises:
        ValueError: when ``clients`` is below 1.
    """
    if clients < 1:
        raise ValueError(f"a closed loop needs at least 1 client, not {clients}")
    run = _Run(target, timeout_s, on_tick)
    stopped = False
    run.more_to_send = lambda: not stopped and run.elapsed_s() < duration_s

    def send() -> None:
        if run.more_to_send():
            run.send(make_request(run.offered), run.clock())

    def start() -> None:
        for _ in range(clients):
            send()

    def stop() -> None:
        nonlocal stopped
        stopped = True

    def next_after(record: RequestRecord) -> None:
        if record.outcome == "ok":
            send()
        else:
            run.call_later(0.01, send)

    run.on_record = next_after
    return await run.execute(start=start, stop=stop)


class _Run:
    """What both loops share: sending, deadlines, records, progress, an orderly end."""

    def __init__(self, target: Target, timeout_s: float, on_tick: OnTick | None) -> None:
        self.clock = time.perf_counter
        self.call_later = asyncio.get_running_loop().call_later
        self.origin_s = 0.0
        self.offered = 0
        self.more_to_send: Callable[[], bool] = lambda: False
        self.on_record: Callable[[RequestRecord], None] | None = None
        self._pool = Pool(target, self.clock)
        self._timeout_s = timeout_s
        self._on_tick = on_tick
        self._meter = ProgressMeter()
        self._next_tick_s = _TICK_S
        self._in_flight: dict[int, Exchange] = {}  # in order of sending, so of deadline too
        self._records: list[RequestRecord] = []

    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.origin_s

    async def execute(
        self, start: Callable[[], None], stop: Callable[[], None]
    ) -> list[RequestRecord]:
        """Starts the loop and waits for its end, or for a cancellation."""
        try:
            await self._pool.prepare(self._timeout_s)
            with _garbage_frozen():
                self.origin_s = self.clock()
                start()
                while self._in_flight or self.more_to_send():
                    await asyncio.sleep(_SWEEP_S)
                    self._sweep()
        except asyncio.CancelledError:
            pass  # the caller asked for what was measured so far
        finally:
            stop()
            self.on_record = None
            self._give_up(list(self._in_flight.values()), "cut", CLIENT_STOPPED)
            await self._pool.close()
        self._records.sort(key=lambda record: record.index)
        return self._records

    def send(self, planned: PlannedRequest, intended_s: float) -> None:
        """Sends one request, meant for ``intended_s`` on the clock."""
        exchange = Exchange(self.offered, planned, intended_s, self.clock(), self._ended)
        self.offered += 1
        self._in_flight[exchange.index] = exchange
        self._pool.submit(exchange)

    def _ended(self, exchange: Exchange, outcome: Outcome, reason: str, now: float) -> None:
        del self._in_flight[exchange.index]
        record = exchange.record(outcome, reason, now, self.origin_s)
        self._records.append(record)
        if self._on_tick is not None:
            self._meter.ended(record)
        if self.on_record is not None:
            self.on_record(record)

    def _sweep(self) -> None:
        """Ends what is past its deadline, and reports progress."""
        latest = self.clock() - self._timeout_s
        expired = takewhile(lambda e: e.sent_s <= latest, self._in_flight.values())
        self._give_up(list(expired), "timeout", f"no end within {self._timeout_s:g} s")
        now = self.elapsed_s()
        if self._on_tick is not None and now >= self._next_tick_s:
            self._next_tick_s += _TICK_S
            self._on_tick(self._meter.report(now, self.offered, len(self._in_flight)))

    def _give_up(self, exchanges: list[Exchange], outcome: Outcome, reason: str) -> None:
        for exchange in exchanges:
            connection = exchange.connection
            if connection is not None:
                connection.abort()
            exchange.end(outcome, reason, self.clock())


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
