"""``python -m forebay.load.worker``: a load in a process of its own, with its own interpreter lock.

Reads a plan (JSON, see `spec.WorkerSpec`) from stdin, prints one JSON object a second while it
runs (`progress.Progress`) and a last one, ``{"summary": ...}``. Exit codes: 0 measured, also when
stopped by SIGINT or SIGTERM (what was measured is written); 2 the plan is wrong; 3 a file could
not be written.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from forebay.load.driver import CLIENT_STOPPED, run_closed_loop, run_open_loop
from forebay.load.progress import Progress
from forebay.load.realtime import Grant, realtime_scheduling
from forebay.load.spec import RequestFactory, WorkerSpec
from forebay.measure.records import RequestRecord
from forebay.measure.summary import summarise


def main() -> int:
    """Runs the plan on stdin; returns the exit code."""
    try:
        spec = WorkerSpec.parse(sys.stdin.read())
        factory = RequestFactory(spec, np.random.default_rng(spec.seed))
        if spec.cores:
            os.sched_setaffinity(0, spec.cores)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"forebay.load.worker: {error}\n")
        return 2
    try:
        _write_results(spec, *_measure(spec, factory))
    except OSError as error:
        sys.stderr.write(f"forebay.load.worker: {error}\n")
        return 3
    return 0


def _measure(
    spec: WorkerSpec, factory: RequestFactory
) -> tuple[list[RequestRecord], dict[str, Any]]:
    """Runs the load; its records, and what is to be known of the client."""
    _raise_file_limit()
    schedule = factory.schedule() if spec.mode == "open" else []
    ordinary = nullcontext(Grant(False, "not asked for"))
    with realtime_scheduling() if spec.realtime else ordinary as grant:
        cpu_s, start_s = time.process_time(), time.perf_counter()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            records, interrupted = runner.run(_run(spec, factory, schedule))
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - start_s
    client = {
        "realtime": grant.granted,
        "realtime_reason": grant.reason,
        "cores": spec.cores,
        "interrupted": interrupted,
        "planned": len(schedule) if spec.mode == "open" else None,
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 4),
        "cpu_ms_per_request": round(1000 * cpu_s / max(1, len(records)), 4),
    }
    return records, client


async def _run(
    spec: WorkerSpec, factory: RequestFactory, schedule: Sequence[Any]
) -> tuple[list[RequestRecord], bool]:
    """The load itself; the second value says whether a signal ended it."""
    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    assert running is not None
    interrupted = False

    def stop() -> None:
        nonlocal interrupted
        interrupted = True
        running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    target = spec.target()
    if spec.mode == "open":
        records = await run_open_loop(
            target, schedule, timeout_s=spec.timeout_s, on_tick=_print_progress
        )
    else:
        records = await run_closed_loop(
            target,
            lambda _: factory.request(),
            spec.clients,
            spec.duration_s,
            timeout_s=spec.timeout_s,
            on_tick=_print_progress,
        )
    return records, interrupted


def _write_results(spec: WorkerSpec, records: list[RequestRecord], client: dict[str, Any]) -> None:
    """Writes the files that the plan names, and the last line of progress."""
    duration_s, counted = spec.planned_s, records
    if client["interrupted"]:
        duration_s = min(duration_s, client["wall_s"])
        counted = [record for record in records if record.reason != CLIENT_STOPPED]
    if spec.mode == "closed":  # its tail, without new requests, is not the load asked for
        counted = [record for record in counted if record.ended_s <= duration_s]
    summary = summarise(counted, spec.slo_ttft_s, spec.slo_tpot_s, duration_s)
    result = {"summary": summary.as_dict(), "client": client}
    if spec.records:
        with Path(spec.records).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record.as_dict()) + "\n" for record in records)
    if spec.summary:
        text = json.dumps(result, indent=2, allow_nan=False)
        Path(spec.summary).write_text(f"{text}\n", encoding="utf-8")
    _print(result)


def _print_progress(progress: Progress) -> None:
    _print({key: _short(value) for key, value in asdict(progress).items()})


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()


def _short(value: float | None) -> float | None:
    return round(value, 5) if isinstance(value, float) else value


def _raise_file_limit() -> None:
    """Allows as many connections as the system does: an overloaded open loop needs thousands."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())
