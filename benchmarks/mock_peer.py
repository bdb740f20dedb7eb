"""The mock server as the peer of a run: on a core of its own, and its account read back.

The mock and the client run on one machine and stamp with one clock (`time.perf_counter`, Linux's
CLOCK_MONOTONIC), so what the mock wrote when is the truth that the client's records are held
against. Both are scheduled in real time, each on its own core.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import ROOT, played
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import RequestRecord
from forebay.mock import MockProcess
from forebay.mock.mock_process import mock_process
from forebay.spec.workload import WorkloadSpec

LOGS = ROOT / "runs" / "logs"


def two_cores() -> tuple[int, int]:
    """The server's core and the client's.

    Raises:
        SystemExit: this machine has one core only.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this benchmark needs two cores: one for the server, one for the client")
    return cores[0], cores[1]


@dataclass
class MockPeer:
    """A mock that runs, or ran, beside a client."""

    process: MockProcess
    log: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.process.url

    @property
    def summary(self) -> dict[str, Any]:
        """What it says of itself, once it has ended."""
        assert self.process.summary is not None
        return self.process.summary

    @property
    def cpu_share(self) -> float:
        """CPU seconds over wall seconds, idle time before and after the run included."""
        return float(self.summary["cpu_s"] / self.summary["wall_s"])

    def requests(self) -> dict[str, dict[str, Any]]:
        """Its log by request id, once it has ended; see `forebay.mock.log.RequestLog`."""
        with self.log.open(encoding="utf-8") as lines:
            entries = [json.loads(line) for line in lines]
        return {entry["request_id"]: entry for entry in entries if "request_id" in entry}


@contextmanager
def running_mock(name: str, **spec: Any) -> Iterator[MockPeer]:
    """A mock on the server's core, ended with the block; `spec` as in `forebay.mock.spec`.

    Raises:
        MockFailedError: it did not start, or failed.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"mock-{name}.jsonl"
    server_core, _ = two_cores()
    with mock_process(
        {"cores": [server_core], "realtime": True, "log": str(log), **spec}
    ) as process:
        yield MockPeer(process, log)


def play(
    url: str, workload: WorkloadSpec, *, model: str = "mock", core: int | None = None, **plan: Any
) -> LoadRun:
    """Plays a workload from one process on the client's core.

    Raises:
        WorkerFailedError: the worker failed.
    """
    cores = [two_cores()[1] if core is None else core]
    endpoint = Endpoint(url=url, model=model)
    return played(LoadPlan(endpoint=endpoint, workload=workload, cores=cores, **plan))


def request_id(run: LoadRun, record: RequestRecord) -> str:
    """The `X-Request-Id` under which a record's request was sent."""
    return f"{run.salt}-{record.session}-{record.turn}"


def matched(
    run: LoadRun, entries: dict[str, dict[str, Any]]
) -> list[tuple[RequestRecord, dict[str, Any]]]:
    """Each record with the mock's entry for it; records that the mock never saw are left out."""
    pairs = ((record, entries.get(request_id(run, record))) for record in run.records)
    return [(record, entry) for record, entry in pairs if entry is not None]
