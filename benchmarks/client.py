"""What the benchmarks offer, and what they read from a run."""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun, run_load
from forebay.measure import RequestRecord, adjusted_percentile
from forebay.serving.app import model_threads
from forebay.spec.service import load_service
from forebay.spec.workload import WorkloadSpec, fixed_workload

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Workload:
    """Exact lengths in tokens; prompts never repeat."""

    name: str
    prompt_tokens: int
    output_tokens: int


SHORT = Workload("short", 180, 48)
LONG_PROMPTS = Workload("long prompts", 1400, 48)
LONG_OUTPUTS = Workload("long outputs", 60, 400)
WORKLOADS = {w.name: w for w in (SHORT, LONG_PROMPTS, LONG_OUTPUTS)}


def admitted_ttft(records: Iterable[RequestRecord], q: float) -> float | None:
    """A percentile of the TTFT of what was not refused on arrival, in seconds.

    Whoever was let in and then aborted at a deadline, or failed, waited for ever.
    """
    kept = [r for r in records if r.outcome != "shed" or r.reason == "deadline_exceeded"]
    good = [r.ttft for r in kept if r.outcome == "ok" and r.ttft is not None]
    return adjusted_percentile(good, len(kept) - len(good), q)


def aborted(records: Iterable[RequestRecord]) -> int:
    """Requests that were let in and had no first token by their deadline."""
    return sum(r.reason == "deadline_exceeded" for r in records)


def lag_p99_ms(run: LoadRun) -> float:
    """How late the client sent, in milliseconds."""
    return float((run.client.lag_p99_s or 0.0) * 1e3)


def is_valid(run: LoadRun) -> bool:
    """Whether the client kept up, as `measure.validity` judges: p99 lag within 20 ms, and more."""
    return run.validity.valid


def completion_rate(run: LoadRun, clients: int) -> float:
    """Requests/s of a closed loop, between the end of its first round and its last answer.

    The clients of a closed loop move in step, so answers come in bursts of `clients`; counting
    them in a fixed window would round the rate to whole bursts.
    """
    ended = sorted(record.ended_s for record in run.records if record.outcome == "ok")
    if len(ended) <= clients:
        return 0.0
    return float((len(ended) - clients) / (ended[-1] - ended[clients - 1]))


def load(
    url: str,
    workload: Workload,
    *,
    stages: Sequence[tuple[float, float]] = (),
    clients: int | None = None,
    seconds: float = 20.0,
    seed: int = 0,
    timeout_s: float = 60.0,
    anywhere: bool = False,
    headers: Mapping[str, str] | None = None,
) -> LoadRun:
    """Offer Poisson arrivals in stages of (requests/s, seconds), or keep some clients busy.

    Prompts are token ids that no run repeats. The client is kept off the model's cores, unless it
    may run `anywhere`.

    Raises:
        WorkerFailedError: the worker failed.
    """
    spec = fixed_workload(
        workload.name,
        workload.prompt_tokens,
        workload.output_tokens,
        stages=stages,
        clients=clients,
        seconds=seconds,
        seed=seed,
    )
    endpoint = Endpoint(url=url, model="demo")
    cores = None if anywhere else spare_cores()
    return played(
        LoadPlan(
            endpoint=endpoint,
            workload=spec,
            cores=cores,
            timeout_s=timeout_s,
            headers=headers or {},
        )
    )


def played(plan: LoadPlan) -> LoadRun:
    """The whole run of a plan.

    Raises:
        KeyboardInterrupt: Ctrl-C came: what was measured by then is no figure.
        WorkerFailedError: a worker failed.
    """
    run = run_load(plan)
    if run.client.interrupted:
        raise KeyboardInterrupt
    return run


@contextmanager
def traced(name: str, rows: Iterable[Mapping[str, object]]) -> Iterator[WorkloadSpec]:
    """A workload of given requests, rows of Forebay's own trace format, while it is played."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as trace:
        trace.writelines(json.dumps(row) + "\n" for row in rows)
        trace.flush()
        content = {"name": name, "trace": {"file": trace.name, "format": "forebay"}}
        yield WorkloadSpec.model_validate(content)


def spare_cores() -> list[int] | None:
    """The cores that no model computes on (see `systems.running`); None when there are none."""
    threads = model_threads(load_service(ROOT / "examples" / "demo.yaml"))
    return sorted(os.sched_getaffinity(0))[threads:] or None


def settle(url: str, limit_s: float = 120.0, headers: Mapping[str, str] | None = None) -> None:
    """Wait until a small request is answered quickly again: the run before left no queue.

    Raises:
        RuntimeError: it never was, within `limit_s`.
    """
    body = json.dumps({"model": "demo", "prompt": "a", "max_tokens": 1}).encode()
    give_up = time.monotonic() + limit_s
    while time.monotonic() < give_up:
        asked = time.monotonic()
        request = urllib.request.Request(
            f"{url}/v1/completions", body, {"content-type": "application/json", **(headers or {})}
        )
        try:
            with urllib.request.urlopen(request, timeout=limit_s):
                if time.monotonic() - asked < 0.25:
                    time.sleep(1.0)
                    return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"{url} did not settle within {limit_s} s")
