"""Worker processes on this machine."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from forebay.load.plan import ORDER_IS_WRONG, WorkerPlan
from forebay.load.run.progress import Progress
from forebay.load.run.shard import PartFacts
from forebay.load.run.table import read_records
from forebay.measure import RequestRecord

_STOP_S = 30.0  # for workers to write what they measured
_MOST_COMPLAINT = 20_000  # characters that are shown of a worker's


class WorkerFailedError(RuntimeError):
    """A load worker ended without a result; the message is its own."""


class Workers:
    """One process a part. An order goes to its process on stdin: it may hold keys."""

    def __init__(self, orders: Sequence[WorkerPlan]) -> None:
        self._orders = orders
        self._said: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
        self._facts: dict[int, PartFacts] = {}
        self._processes: list[subprocess.Popen[str]] = []
        # A pipe that nobody reads until the end would stop a worker that has much to complain of.
        self._complaints = [tempfile.TemporaryFile("w+") for _ in orders]  # noqa: SIM115
        try:
            for number, order in enumerate(orders):
                self._processes.append(self._start(number, order))
        except BaseException:
            self.close()
            raise

    def prepare(self) -> list[int | None]:
        """Waits until every process has made its schedule; the sessions in each.

        Raises:
            ValueError: the workload cannot be played: a file that it names is broken.
            WorkerFailedError: one cannot for another reason.
        """
        ready: dict[int, int | None] = {}
        while len(ready) < len(self._processes):
            number, said = self._next()
            ready[number] = said.get("ready")
        return [ready[number] for number in range(len(self._processes))]

    def play(self, start_at: float, on_tick: Callable[[int, Progress], None]) -> None:
        """Has all of them play, and waits for the last to end.

        Raises:
            WorkerFailedError: one ended without a result.
        """
        self._tell({"start_at": start_at})
        self._collect(on_tick, None)

    def stop(self) -> None:
        """Has them end and write what they measured.

        Raises:
            WorkerFailedError: one did not within 30 s.
        """
        self._tell({"stop": True})
        self._collect(lambda number, progress: None, _STOP_S)

    def results(self) -> list[tuple[list[RequestRecord], PartFacts]]:
        """What each measured."""
        return [
            (read_records(Path(str(order.records))), self._facts[number])
            for number, order in enumerate(self._orders)
        ]

    def close(self) -> None:
        """Ends every process that still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()
        for file in self._complaints:
            file.close()

    def _start(self, number: int, order: WorkerPlan) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "forebay.load.run.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints[number],
            text=True,
        )
        assert process.stdout is not None
        listener = threading.Thread(target=self._listen, args=(number, process.stdout), daemon=True)
        listener.start()
        _say(process, order.as_json())
        return process

    def _tell(self, what: dict[str, Any]) -> None:
        for process in self._processes:
            _say(process, json.dumps(what))

    def _listen(self, number: int, lines: IO[str]) -> None:
        with suppress(ValueError):  # closed while reading: the run is over
            for line in lines:
                self._said.put((number, json.loads(line)))
        self._said.put((number, None))

    def _next(self, timeout_s: float | None = None) -> tuple[int, dict[str, Any]]:
        said: dict[str, Any] | None = None
        number = -1
        while said is None and (number < 0 or number in self._facts):  # its end, after its facts
            try:
                number, said = self._said.get(timeout=timeout_s)
            except queue.Empty:
                raise WorkerFailedError("a load worker does not stop") from None
        if said is None:
            self._complain(number)
        return number, said

    def _complain(self, number: int) -> NoReturn:
        ended, file = self._processes[number].wait(), self._complaints[number]
        file.seek(0)
        complaint = file.read(_MOST_COMPLAINT).strip()
        if ended == ORDER_IS_WRONG:
            raise ValueError(complaint)
        raise WorkerFailedError(complaint or "a load worker ended without a result")

    def _collect(self, on_tick: Callable[[int, Progress], None], timeout_s: float | None) -> None:
        """Hears them out until each has told its facts, which may take so long in all."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while len(self._facts) < len(self._processes):
            left = None if until is None else max(until - time.monotonic(), 0.0)
            number, said = self._next(left)
            if "progress" in said:
                on_tick(number, Progress(**said["progress"]))
            elif "facts" in said:
                self._facts[number] = PartFacts(**said["facts"])


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # then it failed, and says why
        process.stdin.write(line + "\n")
        process.stdin.flush()
