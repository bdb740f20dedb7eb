"""The load worker in a process of its own: own interpreter, own scheduling."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forebay.load.progress import Progress
from forebay.measure.records import RequestRecord

__all__ = ["LoadRun", "Progress", "WorkerFailedError", "run_worker"]


class WorkerFailedError(RuntimeError):
    """The load worker ended without a result."""


@dataclass(frozen=True, slots=True)
class LoadRun:
    """One load run: the summary, the client's notes on itself, and a record per request."""

    summary: dict[str, Any]
    client: dict[str, Any]
    records: list[RequestRecord]


def run_worker(plan: dict[str, Any], tick: Callable[[Progress], None] | None = None) -> LoadRun:
    """Offer load as the plan says (see `forebay.load.spec.WorkerSpec`).

    Args:
        plan: the worker's orders; where records go is filled in here.
        tick: called with the worker's progress, about once a second.

    Raises:
        WorkerFailedError: it failed; the message is its own.
    """
    with tempfile.TemporaryDirectory(prefix="forebay-load-") as folder:
        rows = Path(folder) / "records.jsonl"
        last = _run({**plan, "records": str(rows)}, tick)
        with rows.open(encoding="utf-8") as file:
            records = [RequestRecord.from_dict(json.loads(line)) for line in file]
    return LoadRun(last["summary"], last["client"], records)


def _run(plan: dict[str, Any], tick: Callable[[Progress], None] | None) -> dict[str, Any]:
    last: dict[str, Any] = {}
    process = subprocess.Popen(
        [sys.executable, "-m", "forebay.load.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        process.stdin.write(json.dumps(plan).encode())
        process.stdin.close()
        for line in process.stdout:
            last = json.loads(line)
            if "summary" not in last and tick is not None:
                tick(Progress(**last))
        complaint = process.stderr.read().decode()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if process.wait() != 0 or "summary" not in last:
        raise WorkerFailedError(complaint.strip() or "the load worker gave no result")
    return last
