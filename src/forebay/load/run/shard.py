"""One worker's part of a run, in the process that plays it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import quote

import uvloop

from forebay.load.client import Attempt
from forebay.load.plan import CLASS_HEADER, WorkerPlan
from forebay.load.run.driver import (
    OnTick,
    Played,
    Settings,
    play_closed_loop,
    play_open_loop,
    stocked,
)
from forebay.load.run.prefetch import Prefetch
from forebay.load.run.retries import RetryPolicy
from forebay.load.timing import Grant, raise_file_limit, realtime_scheduling
from forebay.measure import RequestRecord
from forebay.spec.workload import WorkloadSpec
from forebay.workload import ClosedLoop, Session, share_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFacts:
    """How one worker fared.

    Attributes:
        realtime: whether real-time scheduling was granted.
        realtime_reason: why not.
        stall_max_s: longest time that its event loop was late to wake.
        cpu_s, wall_s: seconds, of the whole part.
        played_s: those of them after second 0.
        planned: sessions in its schedule; None in a closed loop.
        begun: sessions begun.
        interrupted: stopped before its end.
        origin_s: second 0 on the machine's monotonic clock (`time.perf_counter`).
    """

    realtime: bool
    realtime_reason: str
    stall_max_s: float
    cpu_s: float
    wall_s: float
    played_s: float
    planned: int | None
    begun: int
    interrupted: bool
    origin_s: float = 0.0


class Shard:
    """Made from its order, then played once."""

    def __init__(self, order: WorkerPlan) -> None:
        """Makes the schedule and its first bodies, so that playing begins at once.

        Raises:
            ValueError: the order or its workload cannot be.
            OSError: a file that it names cannot be read, or its cores not be had.
        """
        self._order = order
        spec = WorkloadSpec.model_validate(order.workload)
        self._workload = spec.make()
        self._settings = Settings(
            target=order.target(),
            maker=order.maker(spec.temperature),
            run_id=quote(order.salt or "run", safe=""),  # it goes into a header
            timeout_s=order.timeout_s,
            retries=RetryPolicy(order.attempts),
            headers=order.headers,
            class_headers=_class_headers(order),
            tenant_headers=order.tenant_headers,
            until_s=self._workload.seconds,
        )
        self._sessions: list[Session] = []
        self._stock: Prefetch[Attempt] | None = None
        if not isinstance(self._workload, ClosedLoop):
            self._sessions = share_of(self._workload.schedule(), order.worker, order.workers)
            self._stock = stocked(self._settings, self._sessions)
        self._cancel: Callable[[], object] = lambda: None
        self._stopped = False
        if order.cores:
            os.sched_setaffinity(0, order.cores)

    @property
    def planned(self) -> int | None:
        """Sessions in its schedule; None in a closed loop."""
        return None if isinstance(self._workload, ClosedLoop) else len(self._sessions)

    def play(self, start_at: float, on_tick: OnTick) -> tuple[list[RequestRecord], PartFacts]:
        """Plays from `start_at` on (a time of `time.time`), which all workers share."""
        raise_file_limit()
        ordinary = nullcontext(Grant(False, "not asked for"))
        with realtime_scheduling() if self._order.realtime else ordinary as grant:
            cpu_s, began_s = time.process_time(), time.perf_counter()
            origin_s = began_s + (start_at - time.time())
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                played, interrupted = runner.run(self._play(origin_s, on_tick))
            ended_s = time.perf_counter()
            cpu_s, wall_s = time.process_time() - cpu_s, ended_s - began_s
        facts = PartFacts(
            realtime=grant.granted,
            realtime_reason=grant.reason,
            stall_max_s=played.stall_max_s,
            cpu_s=cpu_s,
            wall_s=wall_s,
            played_s=max(ended_s - origin_s, 0.0),
            planned=self.planned,
            begun=sum(record.turn == 0 for record in played.records),
            interrupted=interrupted,
            origin_s=origin_s,
        )
        return played.records, facts

    def stop(self) -> None:
        """Ends the play early, from another thread; it returns what it measured."""
        self._stopped = True
        self._cancel()

    async def _play(self, origin_s: float, on_tick: OnTick) -> tuple[Played, bool]:
        """The play itself; the second value says whether it was stopped early."""
        loop, running = asyncio.get_running_loop(), asyncio.current_task()
        assert running is not None
        stops: list[str] = []

        def stop() -> None:
            stops.append("stopped")
            running.cancel()

        self._cancel = lambda: loop.call_soon_threadsafe(stop)
        if self._stopped:  # before there was anything to cancel
            loop.call_soon(stop)
        workload, order = self._workload, self._order
        settings = replace(self._settings, origin_s=origin_s, on_tick=on_tick)
        if isinstance(workload, ClosedLoop):
            mine = islice(workload.stream(), order.worker, None, order.workers)
            clients = len(range(order.worker, workload.clients, order.workers))
            played = await play_closed_loop(settings, mine, clients, workload.seconds)
        else:
            played = await play_open_loop(settings, self._sessions, self._stock)
        self._cancel = lambda: None
        return played, bool(stops)


def _class_headers(order: WorkerPlan) -> dict[str, dict[str, str]]:
    names = {str(kind.get("class", "")) for kind in order.workload.get("requests", ())}
    return {name: {CLASS_HEADER: name} for name in names | {"interactive", "batch"} if name}
