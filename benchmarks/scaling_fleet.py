"""What the parts of the scaling benchmark share: a fleet that scales, watched all the time.

The engines are `h100-8b` emulated at a twentieth of its speed behind real Ray Serve and HAProxy, so
every time of an engine, the cold start's too, is 20 x as long as the real one's and a request a
second stands for 20. Scaling itself, drains and the front door are not slowed.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import yaml

import systems
from client import played
from forebay.engine_model import PROFILES
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import MOST_LATE
from forebay.spec.workload import WorkloadSpec
from tables import Bar

PORT = 8000
MODEL = "llama-8b"
PROFILE, SLOWED = "h100-8b", 20
TPOT_S = 0.05  # promised, before it is slowed
COLD_START_S = 20.0  # of the engine, as it passes here; a replica's process comes on top
_LOOK_S = 0.5
_ANSWER_S = 10.0

Status = dict[str, Any]


def service(cold_start_s: float = COLD_START_S, **sections: Mapping[str, Any]) -> dict[str, Any]:
    """A service file: `scaling` and what else differs between parts."""
    model = {
        "id": MODEL,
        "engine": "emulated",
        "source": PROFILE,
        "slowed": SLOWED,
        "cold_start": f"{cold_start_s / SLOWED:g}s",
    }
    slo = {"ttft_p99": "1s", "tpot_p99": f"{TPOT_S * 1000:g}ms"}
    return {"name": "scaling", "model": model, "slo": slo, **sections}


def replicas_of(rate: float, prompt: int, answer: int) -> float:
    """Replicas that requests of this kind keep busy, by the profile's step times alone.

    A step of T seconds gives each running sequence a token and computes the prompts that came in
    it: T = base + x T w at x requests/s of w seconds of work each, so x = (1 - base / T) / w.

    Args:
        rate: requests/s.
        prompt: tokens of each, none of them cached.
        answer: tokens of each.
    """
    law = PROFILES[PROFILE].slowed(SLOWED).step_time
    prompt_s = law.prefill_token * prompt + law.prefill_pair * prompt * prompt / 2
    token_s = law.decode_sequence + law.context_token * (prompt + answer / 2)
    return rate * (prompt_s + answer * token_s) / (1.0 - law.base / (TPOT_S * SLOWED))


@dataclass(frozen=True)
class Look:
    """What the fleet said of itself.

    Attributes:
        at: seconds of `time.time`.
        ready: replicas that publish and take requests.
        decision: the last one on its size.
        late: of the worst replica's steps at p99, in steps.
    """

    at: float
    ready: int
    decision: Mapping[str, Any] | None
    late: float

    @property
    def target(self) -> int | None:
        """Replicas asked for; None before the first decision."""
        return None if self.decision is None else int(self.decision["target"])


class Watch:
    """Looks at a fleet twice a second until it is ended."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.looks: list[Look] = []
        self.decisions: dict[float, dict[str, Any]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            with contextlib.suppress(OSError, ValueError):
                self._look(status(self.url))

    def _look(self, found: Status) -> None:
        for one in found["scaling"]:
            self.decisions[one["at"]] = one
        ready = [one for one in found["replicas"] if not one["draining"]]
        late = max((one["late_p99"] or 0.0 for one in found["replicas"]), default=0.0)
        last = found["scaling"][-1] if found["scaling"] else None
        self.looks.append(Look(time.time(), len(ready), last, late))

    def until(self, condition: Callable[[Look], bool], within_s: float) -> float | None:
        """Wait for it to hold; when it did (`time.time`), or None."""
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up:
            if self.looks and condition(self.looks[-1]):
                return self.looks[-1].at
            time.sleep(_LOOK_S / 2)
        return None

    def since(self, at: float) -> list[Look]:
        """The looks from then on."""
        return [look for look in self.looks if look.at >= at]

    def changes(self) -> list[dict[str, Any]]:
        """Decisions that changed the fleet's size, oldest first."""
        by_time = sorted(self.decisions.items())
        return [one for _, one in by_time if one["target"] != one["before"]]

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def validity(self) -> Bar:
        """Whether the emulated engines kept their times."""
        worst = max((look.late for look in self.looks), default=None)
        late = None if worst is None else 100 * worst
        return Bar("emulator's steps late at p99, worst replica", late, 100 * MOST_LATE, "%")


@dataclass(frozen=True)
class Fleet:
    """A service that runs."""

    server: systems.Server
    watch: Watch
    file: Path

    def load(self, workload: WorkloadSpec, **more: Any) -> LoadRun:
        """Offer a workload to it."""
        endpoint = Endpoint(url=self.server.url, model=MODEL)
        plan = LoadPlan(endpoint=endpoint, workload=workload, timeout_s=900.0, **more)
        return played(plan)


@contextmanager
def running(spec: Mapping[str, Any]) -> Iterator[Fleet]:
    """Serve it, watched, until the end."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        file = Path(folder) / "scaling.yaml"
        file.write_text(yaml.safe_dump(dict(spec)))
        command = systems.forebay(PORT, file)
        with systems.running("scaling", command, PORT, model_cores=1) as server:
            watch = Watch(server.url)
            try:
                yield Fleet(server, watch, file)
            finally:
                watch.end()


def status(url: str) -> Status:
    """The fleet's state as it tells it."""
    with urllib.request.urlopen(f"{url}/forebay/status", timeout=_ANSWER_S) as answer:
        found: Status = json.load(answer)
    return found


def with_headroom(replicas: float, headroom: float = 0.2) -> int:
    """Whole replicas that leave so much of themselves free."""
    return ceil(replicas / (1.0 - headroom) - 1e-6)


def story(watch: Watch, began: float) -> list[tuple[object, ...]]:
    """Each change of size: when, from, to, why."""
    return [
        (round(one["at"] - began, 1), one["before"], one["target"], one["ready"], one["reason"])
        for one in watch.changes()
    ]


STORY = ("s", "replicas", "to", "ready", "why")
