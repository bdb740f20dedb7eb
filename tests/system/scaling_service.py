"""A service that scales, for the system tests: emulated engines so slow that a few requests are
load, and what a test sees and does of it."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from serving_process import ServingProcess, running

COLD_START_S = 4.0
PROMPT, ANSWER = 400, 4
SLOWED = 20

SERVICE: dict[str, Any] = {
    "name": "scaling",
    "model": {
        "id": "demo",
        "engine": "emulated",
        "source": "demo-cpu",
        "slowed": SLOWED,
        "cold_start": f"{COLD_START_S / SLOWED:g}s",
    },
    "slo": {"ttft_p99": "1s", "tpot_p99": "500ms"},
    "scaling": {"min": 1, "max": 4, "stable": "10s", "cold_start": "8s", "drain": "20s"},
    "server": {"drain": "10s"},
}


@contextmanager
def scaling_service(folder: Path, **scaling: Any) -> Iterator[ServingProcess]:
    """The service with these settings of `scaling`, ready; it must stop and leave nothing."""
    spec = {**SERVICE, "scaling": {**SERVICE["scaling"], **scaling}}
    file = folder / "scaling.yaml"
    file.write_text(yaml.safe_dump(spec))
    with running(file, folder) as serving:
        yield serving


def status(service: ServingProcess) -> dict[str, Any]:
    """What the fleet tells of itself; empty while it does not answer."""
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(f"{service.url}/forebay/status", timeout=15) as answer:
            found: dict[str, Any] = json.load(answer)
        return found
    return {"replicas": [], "scaling": []}


def replicas(service: ServingProcess) -> int:
    """Those that publish and take requests."""
    return sum(not one["draining"] for one in status(service)["replicas"])


def ask(service: ServingProcess, seed: int, timeout_s: float = 60.0) -> tuple[int, Any]:
    """Status and headers of one request, whose prompt no other has."""
    rng = random.Random(seed)
    body = {
        "model": "demo",
        "prompt": [rng.randrange(1_000) for _ in range(PROMPT)],
        "max_tokens": ANSWER,
        "ignore_eos": True,
    }
    request = urllib.request.Request(
        f"{service.url}/v1/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            answer.read()
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        error.read()
        return error.code, error.headers


@contextmanager
def load(service: ServingProcess, rate: float) -> Iterator[list[int]]:
    """So many requests a second meanwhile; yields their statuses as they come."""
    statuses: list[int] = []
    over = threading.Event()

    def one(number: int) -> None:
        try:
            statuses.append(ask(service, number)[0])
        except OSError:
            statuses.append(0)

    def offer() -> None:
        threads, number, at = [], 0, time.monotonic()
        while not over.is_set():
            threads.append(threading.Thread(target=one, args=(number,)))
            threads[-1].start()
            number, at = number + 1, at + 1 / rate
            over.wait(max(at - time.monotonic(), 0.0))
        for thread in threads:
            thread.join()

    offering = threading.Thread(target=offer)
    offering.start()
    try:
        yield statuses
    finally:
        over.set()
        offering.join()
