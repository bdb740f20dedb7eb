"""A mock as a process of its own: run one here, or start one beside this process."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from forebay.load.timing import Grant, raise_file_limit, realtime_scheduling, set_within
from forebay.mock.log import MockLog
from forebay.mock.mock_server import MockServer
from forebay.mock.pages import Pulse
from forebay.mock.spec import MockSpec

_TICK_S = 1.0


def run(
    spec: MockSpec, on_ready: Callable[[str], None], on_tick: Callable[[Pulse], None] | None = None
) -> dict[str, Any]:
    """Serves until SIGINT or SIGTERM; returns the summary, which is also the log's last line.

    For a process that does nothing else: it binds itself to cores, and ignores SIGTERM afterwards.

    Args:
        spec: the mock.
        on_ready: called with its URL once it answers.
        on_tick: called once a second.

    Raises:
        OSError: the port, the cores or the log's file cannot be had.
    """
    raise_file_limit()
    if spec.cores:
        os.sched_setaffinity(0, spec.cores)
    # Opened first: that a log cannot be written is no news for the end of a run.
    with Path(spec.log).open("w", encoding="utf-8") if spec.log else nullcontext() as file:
        log, about_the_process = _measured(spec, on_ready, on_tick)
        summary = log.summary() | about_the_process
        if file is not None:
            log.write(file, summary)
    return summary


def _measured(
    spec: MockSpec, on_ready: Callable[[str], None], on_tick: Callable[[Pulse], None] | None
) -> tuple[MockLog, dict[str, Any]]:
    """Serves; the log, and what is to be known of the process."""
    ordinary = nullcontext(Grant(False, "not asked for"))
    with realtime_scheduling() if spec.realtime else ordinary as grant:
        cpu_s, start_s = time.process_time(), time.perf_counter()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            server = runner.run(_serve(spec, on_ready, on_tick))
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - start_s
    return server.log, {
        "writes_behind_a_full_socket": server.waited,
        "realtime": grant.granted,
        "realtime_reason": grant.reason,
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 3),
    }


async def _serve(
    spec: MockSpec, on_ready: Callable[[str], None], on_tick: Callable[[Pulse], None] | None
) -> MockServer:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = MockServer(spec, keep_log=spec.log is not None)
    try:
        await server.start()
        with _no_collection():
            on_ready(server.url)
            while not await set_within(stop, _TICK_S):
                if on_tick is not None:
                    on_tick(server.pulse())
    finally:
        # Told twice to end, it still writes its log; a second Ctrl-C ends it without.
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        await server.close()
    return server


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection over a long log's objects takes tens of ms; nothing here needs one.

    Every cycle (connection and parser, connection and answer) is broken where it ends.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


class MockFailedError(RuntimeError):
    """A mock process did not start, or did not end in good order; the message is its own."""


@dataclass
class MockProcess:
    """A mock that runs beside this process. `summary` is there once it has ended."""

    url: str
    pid: int
    summary: dict[str, Any] | None = None


@contextmanager
def mock_process(spec: Mapping[str, Any]) -> Iterator[MockProcess]:
    """Starts ``python -m forebay.mock`` and ends it with the block.

    Args:
        spec: what `MockSpec.parse` reads.

    Raises:
        MockFailedError: it did not start, or failed.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "forebay.mock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            process.stdin.write(json.dumps(dict(spec)).encode())
            process.stdin.close()
            ready = process.stdout.readline()
            if not ready:
                raise MockFailedError(process.stderr.read().decode().strip())
            mock = MockProcess(json.loads(ready)["url"], process.pid)
            yield mock
        finally:
            process.terminate()
        last = process.stdout.read().splitlines()[-1:]
        if process.wait() != 0 or not last:
            raise MockFailedError(process.stderr.read().decode().strip())
        mock.summary = json.loads(last[0])["summary"]
