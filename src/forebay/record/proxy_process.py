"""The recording proxy as a process: from its start to its signal."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import uvloop

from forebay.load.timing import raise_file_limit, set_within
from forebay.record.proxy import Proxy
from forebay.record.recorder import Recorder, Totals
from forebay.record.rows import is_packed, open_trace
from forebay.record.sizes import BlockSize
from forebay.wire import Target

_TICK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyPlan:
    """A recording to be made.

    Attributes:
        target: the endpoint behind the proxy.
        output: the trace; packed for a name in .gz.
        host, port: where to listen; a free port when 0.
        size: of the blocks that prompts are cut into.
        grace_s: how long answers on their way may take once it is told to end.
    """

    target: Target
    output: Path
    host: str = "127.0.0.1"
    port: int = 0
    size: BlockSize = field(default_factory=BlockSize)
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """The proxy at one moment."""

    seconds: float
    in_flight: int
    totals: Totals
    fault: str
    trouble: str


def run(
    plan: ProxyPlan, on_ready: Callable[[str], None], on_tick: Callable[[Pulse], None] | None = None
) -> dict[str, Any]:
    """Passes on and records until SIGINT or SIGTERM, the second of which ends it at once.

    Returns:
        The summary.

    Args:
        plan: what to record.
        on_ready: called with the proxy's URL once it listens.
        on_tick: called once a second.

    Raises:
        OSError: the port or the file cannot be had.
    """
    raise_file_limit()
    cpu_s, start_s = time.process_time(), time.perf_counter()
    with (
        closing(_Trace(plan.output)) as trace,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        proxy = runner.run(_serve(plan, trace, on_ready, on_tick))
    return {
        "output": str(plan.output),
        **proxy.recorder.totals.as_dict(),
        "fault": proxy.recorder.fault,
        "wall_s": round(time.perf_counter() - start_s, 3),
        "cpu_s": round(time.process_time() - cpu_s, 3),
    }


class _Trace:
    """The file, made once the proxy listens: a taken port costs nobody the recording before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def open(self) -> None:
        """Makes it, in place of one that is there.

        Raises:
            OSError: it cannot be written.
        """
        self._file = open_trace(self._path, packed=is_packed(self._path))

    def write(self, line: str) -> None:
        assert self._file is not None
        self._file.write(line)

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


async def _serve(
    plan: ProxyPlan,
    trace: _Trace,
    on_ready: Callable[[str], None],
    on_tick: Callable[[Pulse], None] | None,
) -> Proxy:
    stop, at_once = asyncio.Event(), asyncio.Event()
    proxy = Proxy(plan.target, Recorder(trace.write, plan.size))

    def on_signal() -> None:
        (at_once if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        proxy.loop.add_signal_handler(number, on_signal)
    try:
        await proxy.start(plan.host, plan.port)
        trace.open()  # a file that cannot be written is no news for the end of a recording
        on_ready(proxy.url)
        while not await set_within(stop, _TICK_S):
            _flush(proxy.recorder, trace)
            if on_tick is not None:
                on_tick(_pulse(proxy))
        await _first_of(proxy.close(plan.grace_s), at_once.wait())
    finally:
        await proxy.close()
        _flush(proxy.recorder, trace)
    return proxy


def _pulse(proxy: Proxy) -> Pulse:
    recorder = proxy.recorder
    return Pulse(proxy.now(), proxy.in_flight, recorder.totals, recorder.fault, proxy.trouble)


def _flush(recorder: Recorder, trace: _Trace) -> None:
    """What was recorded so far survives a kill."""
    try:
        trace.flush()
    except OSError as error:
        recorder.fault = recorder.fault or error.strerror or str(error)


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Waits until one has ended, and ends the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
