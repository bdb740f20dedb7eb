"""``python -m forebay.load.run.worker``: one part of a run in a process of its own.

Speaks JSON lines. Reads an order (`order.Order`) and answers ``{"ready": SESSIONS}``; reads
``{"start_at": UNIX_TIME}`` and plays; prints its progress once a second and a last line,
``{"facts": ...}``, when its records are written. One more line, or the end of its input, ends the
play early: a worker never outlives the one who started it. Ctrl-C reaches that one, not the worker.
Exit codes: 0 measured; 2 the order is wrong; 3 a file could not be written.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forebay.load.plan import ORDER_IS_WRONG, WorkerPlan
from forebay.load.run.progress import Progress
from forebay.load.run.shard import Shard
from forebay.load.run.table import write_records


def main() -> int:
    """Runs the order on stdin; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines = _Lines()
    try:
        order = WorkerPlan.parse(lines.next())
        part = Shard(order)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return ORDER_IS_WRONG
    _print({"ready": part.planned})
    begin = lines.next()
    if not begin:
        return 0  # called off
    threading.Thread(target=_stop_when_told, args=(lines, part), daemon=True).start()
    records, facts = part.play(float(json.loads(begin)["start_at"]), _print_progress)
    try:
        if order.records:
            write_records(records, Path(order.records))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    _print({"facts": asdict(facts)})
    return 0


class _Lines:
    """Lines of stdin, read without Python's buffer: a thread that waits inside that buffer makes
    the interpreter fail when it exits.
    """

    def __init__(self) -> None:
        self._rest = b""

    def next(self) -> str:
        """The next line; empty at the end."""
        while b"\n" not in self._rest:
            more = os.read(0, 1 << 16)
            if not more:
                return ""
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


def _stop_when_told(lines: _Lines, part: Shard) -> None:
    lines.next()
    part.stop()


def _print_progress(progress: Progress) -> None:
    _print({"progress": {key: _short(value) for key, value in asdict(progress).items()}})


def _print(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()


def _short(value: float | None) -> float | None:
    return round(value, 5) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
