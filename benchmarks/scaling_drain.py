"""Bar 5: a fleet of 1 that grows to 4 and shrinks to 1, twice, and nobody notices.

Its size is set by hand (`forebay scale`), with the load that one replica carries at 0.7 of its
capacity, all clients together. Beside the short requests there are streams of 180 s, and clients
that keep one connection for the whole time: a connection that its server has closed in between is
opened anew, as every client does; one that breaks under a request is a failure.
"""

from __future__ import annotations

import http.client
import json
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from forebay.load.run import LoadRun
from forebay.spec.workload import fixed_workload
from scaling_fleet import MODEL, PORT, STORY, Fleet, replicas_of, running, service, story
from tables import Bar, print_table

_SHORT = (100, 10)
_SHARE = 0.7
_LOAD_S, _STREAMS_FOR_S = 300.0, 200.0
_STREAMS_RATE = 0.1
_STREAM = (50, 1370)  # tokens; 180 s at 132 ms a step
_STREAM_S = 180.0
_GROW_AT, _GROWN_S = (15.0, 135.0), 40
_KEPT, _KEPT_EVERY_S = 4, 2.5
_SMALL = (20, 2)  # of theirs
_LEAST_REQUESTS = 2_000


class KeptConnection:
    """One connection on which a small request is sent every few seconds."""

    def __init__(self, number: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.reopened = 0
        self._number = number
        self._connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)

    def run(self, over: threading.Event) -> None:
        """Until it is over."""
        while not over.wait(_KEPT_EVERY_S):
            self._renew_if_closed()
            try:
                self.outcomes[self._ask()] += 1
            except (OSError, http.client.HTTPException) as error:
                self.outcomes[type(error).__name__] += 1
                self._connection.close()
        self._connection.close()

    def _renew_if_closed(self) -> None:
        socket = self._connection.sock
        if socket is not None and select.select([socket], [], [], 0)[0]:
            self._connection.close()
            self.reopened += 1

    def _ask(self) -> str:
        prompt, tokens = _SMALL
        body = {
            "model": MODEL,
            "prompt": [self._number] * prompt,
            "max_tokens": tokens,
            "ignore_eos": True,
        }
        headers = {"content-type": "application/json"}
        self._connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = self._connection.getresponse()
        answer.read()
        return "ok" if answer.status == 200 else str(answer.status)


def drain() -> list[Bar]:
    """Twice 1 to 4 to 1 under load; counts what did not end well."""
    scaling = {"min": 1, "max": 4, "cold_start": "25s", "stable": "10s", "drain": "4m"}
    others = replicas_of(_STREAMS_RATE, *_STREAM) + replicas_of(_KEPT / _KEPT_EVERY_S, *_SMALL)
    rate = (_SHARE - others) / replicas_of(1.0, *_SHORT)
    with running(service(scaling=scaling)) as fleet:
        began = time.time()
        short, streams, kept = _offered(fleet, rate)
        fleet.watch.until(lambda look: look.ready == 1, 30.0)
        print_table(STORY, story(fleet.watch, began))
        rows = [_row("short", short), _row("streams", streams), _kept_row(kept)]
        print_table(("clients", "requests", "ended ok", "otherwise"), rows)
        lasted = sorted(one.ended_s - one.sent_s for one in streams.records if one.outcome == "ok")
        print(
            f"\n{rate:.1f} short requests/s, with all others {_SHARE:g} of one replica; streams of "
            f"{lasted[0]:.0f} to {lasted[-1]:.0f} s; kept connections closed by the server between "
            f"requests and opened anew: {sum(one.reopened for one in kept)}"
        )
        requests, fine = (sum(int(str(row[i])) for row in rows) for i in (1, 2))
        return [
            Bar("times grown to 4", _times(fleet, 4), 2, at_least=True),
            Bar("times shrunk to 1", _times(fleet, 1), 2, at_least=True),
            Bar("requests", requests, _LEAST_REQUESTS, at_least=True),
            Bar("failed, cut or shed", requests - fine, 0),
            Bar("longest stream", lasted[-1], _STREAM_S, "s", at_least=True),
            fleet.watch.validity(),
        ]


def _offered(fleet: Fleet, rate: float) -> tuple[LoadRun, LoadRun, list[KeptConnection]]:
    """All clients at once, and the floors by hand meanwhile."""
    over = threading.Event()
    kept = [KeptConnection(number) for number in range(_KEPT)]
    short = fixed_workload("short", *_SHORT, stages=[(rate, _LOAD_S)], seed=1)
    streams = fixed_workload("streams", *_STREAM, stages=[(_STREAMS_RATE, _STREAMS_FOR_S)], seed=2)
    with ThreadPoolExecutor(_KEPT + 3) as pool:
        try:
            for one in kept:
                pool.submit(one.run, over)
            runs = [pool.submit(fleet.load, workload) for workload in (short, streams)]
            floors = pool.submit(_set_floors, fleet.file)
            found = [run.result() for run in runs]
        finally:
            over.set()  # or the pool would wait for them for ever
        floors.result()
    return found[0], found[1], kept


def _set_floors(file: Path) -> None:
    began = time.monotonic()
    for at in _GROW_AT:
        time.sleep(max(began + at - time.monotonic(), 0.0))
        set_floor(file, 4, _GROWN_S)


def set_floor(file: Path, replicas: int, seconds: float) -> None:
    """What an operator does."""
    command = [str(Path(sys.executable).parent / "forebay"), "scale", str(file)]
    command += ["--min", str(replicas), "--until", f"{seconds:g}s"]
    subprocess.run(command, check=True, timeout=60)


def _times(fleet: Fleet, size: int) -> int:
    """How often so many replicas came to be ready, after another number of them had been."""
    sizes = [look.ready for look in fleet.watch.looks if look.ready in (1, 4)]
    return sum(now == size != before for before, now in pairwise(sizes))


def _row(name: str, run: LoadRun) -> tuple[object, ...]:
    outcomes = Counter(record.outcome for record in run.records)
    fine = outcomes.pop("ok", 0)
    others = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    return name, len(run.records), fine, others or "-"


def _kept_row(kept: Sequence[KeptConnection]) -> tuple[object, ...]:
    outcomes = sum((one.outcomes for one in kept), Counter[str]())
    total = outcomes.total()
    fine = outcomes.pop("ok", 0)
    others = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    return "kept connections", total, fine, others or "-"
