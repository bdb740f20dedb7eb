"""Bar 9 and the way from zero: what a restarted controller and a fleet of none do."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from typing import Any

import systems
from forebay.spec.workload import fixed_workload
from scaling_fleet import MODEL, STORY, Look, Watch, running, service, status, story
from tables import Bar, print_table

_RATE, _LOAD_S = 2.5, 200.0
_PROMPT, _ANSWER = 1000, 100
_AFTER_S = 45.0  # for the controller to come back and to go wrong
_TRIES = 4


def restart() -> list[Bar]:
    """Serve's controller killed while the fleet grows, and again while it is busy."""
    spec = service(scaling={"min": 1, "max": 8, "cold_start": "25s", "stable": "20s"})
    workload = fixed_workload("steady", _PROMPT, _ANSWER, stages=[(_RATE, _LOAD_S)], seed=1)
    with running(spec) as fleet:
        began, watch = time.time(), fleet.watch
        load = threading.Thread(target=fleet.load, args=(workload,))
        load.start()
        watch.until(lambda look: (look.target or 0) > 1, 60.0)
        first = kill_controller(fleet.server)
        grown = watch.changes()[0]["target"]
        watch.until(lambda look: look.ready >= grown, 90.0)
        second = kill_controller(fleet.server)
        time.sleep(_AFTER_S)
        kept = {one["at"] for one in status(fleet.server.url)["scaling"]}
        oldest = min(kept)
        known = {at for at in watch.decisions if at >= oldest and _is_change(watch.decisions[at])}
        lowest = min(look.target for look in watch.since(first) if look.target is not None)
        resumed = max(watch.decisions) - second
        ready = min(look.ready for look in watch.since(second))
        load.join()
        print_table(STORY, story(watch, began))
        print(f"\ncontroller killed {first - began:.1f} and {second - began:.1f} s after the start")
        return [
            Bar("lowest target after the first kill", lowest, grown, at_least=True),
            Bar("fewest ready after the second", ready, grown, at_least=True),
            Bar("decisions lost", len(known - kept), 0),
            Bar("decisions went on for, after the second", resumed, 20.0, "s", at_least=True),
            watch.validity(),
        ]


def has_grown(look: Look) -> bool:
    """Whether the fleet has been asked to grow from one."""
    return (look.target or 0) > 1


class ControllerKilled:
    """Has Serve's controller killed in the middle of a load, whatever goes on meanwhile."""

    def __init__(
        self,
        server: systems.Server,
        watch: Watch,
        within_s: float,
    ) -> None:
        """Wait in a thread for the moment, so long at most."""
        self._server = server
        self._watch = watch
        self._at: float | None = None
        self._thread = threading.Thread(target=self._wait, args=(within_s,), daemon=True)
        self._thread.start()

    def _wait(self, within_s: float) -> None:
        if self._watch.until(has_grown, within_s):
            self._at = kill_controller(self._server)

    def bars(self, until: float) -> list[Bar]:
        """What must hold from then on, until the load falls or ends (`time.time`)."""
        self._thread.join()
        if self._at is None:
            return [Bar("controller killed", None, 1, at_least=True)]
        watch = self._watch
        before = max(look.target or 0 for look in watch.looks if look.at < self._at)
        after = [look.target for look in watch.since(self._at) if look.at < until and look.target]
        kept = {one["at"] for one in status(self._server.url)["scaling"]}
        known = {at for at, one in watch.decisions.items() if at >= min(kept) and _is_change(one)}
        return [
            Bar("lowest target after the controller was killed", min(after), before, at_least=True),
            Bar("decisions lost", len(known - kept), 0),
        ]


def kill_controller(server: systems.Server) -> float:
    """Kill the controller's process; when."""
    for process in server.processes():
        if " ".join(process.cmdline()).startswith("ray::ServeController"):
            os.kill(process.pid, signal.SIGKILL)
            return time.time()
    raise RuntimeError("Serve has no controller")


def _is_change(decision: dict[str, Any]) -> bool:
    return bool(decision["target"] != decision["before"])


def zero() -> list[Bar]:
    """From none to one by a client that obeys, and the way back."""
    spec = service(scaling={"min": 0, "max": 2, "cold_start": "25s", "stable": "10s"})
    with running(spec) as fleet:
        began, rows = time.time(), []
        asleep = fleet.watch.until(lambda look: not look.ready, 240.0)
        for attempt in range(_TRIES):
            asked = time.time()
            code, retry_s = _ask(fleet.server.url)
            rows.append((attempt + 1, round(asked - began, 1), code, retry_s))
            if code == 200:
                break
            time.sleep(retry_s)
        cold_s = status(fleet.server.url)["scaling"][-1]["cold_start"]["mean_s"]
        print_table(("attempt", "at s", "status", "Retry-After, s"), rows)
        print_table(STORY, story(fleet.watch, began))
        print(f"\ncold start as measured {cold_s:.1f} s")
        return [
            Bar("slept", 1.0 if asleep else 0.0, 1.0, at_least=True),
            Bar("first answer", rows[0][2], 503, at_least=True),
            Bar("served by attempt", len(rows) if rows[-1][2] == 200 else None, 2),
        ]


def _ask(url: str) -> tuple[int, float]:
    """Status, and the seconds after which to come back."""
    body = {"model": MODEL, "prompt": "hello", "max_tokens": 4}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, 0.0
    except urllib.error.HTTPError as error:
        return error.code, float(error.headers.get("retry-after", 0))
