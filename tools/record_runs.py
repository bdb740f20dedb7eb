"""Records the real runs that the tests of `forebay.measure.comparison` are calibrated on.

Twenty runs of one service under one load, one after the other. Each offers the same arrivals, as
`forebay load` does when it is repeated, and prompts of its own, so all that differs between them is
noise. Start the service first:

    .venv/bin/forebay serve tests/unit/measure/data/service.yaml
    .venv/bin/python tools/record_runs.py --rate 10 --seconds 25 --server-pid PID

The rate should be about a third of what the service sustains; closer to it, every run has another
queue. A run whose client was late, or beside which other programs used more of the machine than
`--most-foreign`, is made again. An emulated engine sleeps through its steps and bears company; one
that computes does not, and nothing else should run beside it (`--most-foreign 0.05`). Only what the
tests read is stored, in single precision.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from forebay.load.client import ProbeTarget, look_at
from forebay.load.run import LoadPlan, LoadRun, run_load
from forebay.measure import OUTCOMES, RequestRecord
from forebay.serving.app import model_threads
from forebay.spec.service import load_service
from forebay.spec.workload import fixed_workload

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "tests" / "unit" / "measure" / "data" / "runs.npz"
PROMPT_TOKENS, OUTPUT_TOKENS = 180, 48  # the "short" workload of benchmarks/
REST_S = 1.0  # between two runs, for the last answers of the one before
MOST_FOREIGN = 2.0  # cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--rate", type=float, required=True, help="requests/s")
    parser.add_argument("--server-pid", type=int, required=True, help="of `forebay serve`")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--most-foreign", type=float, default=MOST_FOREIGN, help="cores")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()
    play(options.url, options.rate, options.seconds)  # not stored: caches and allocators fill
    runs: list[Sequence[RequestRecord]] = []
    while len(runs) < options.runs:
        before = foreign_cpu_s(options.server_pid), time.monotonic()
        run = play(options.url, options.rate, options.seconds)
        used_s, took_s = foreign_cpu_s(options.server_pid) - before[0], time.monotonic() - before[1]
        print(f"  other programs used {used_s / took_s:.3f} of a core", flush=True)
        if run.validity.valid and used_s <= options.most_foreign * took_s:
            runs.append(run.records)
            store(runs, options.seconds, options.output)
    print(f"wrote {options.output}: {options.output.stat().st_size / 1000:.0f} KB")


def play(url: str, rate: float, seconds: float) -> LoadRun:
    """One run, after a rest."""
    time.sleep(REST_S)
    workload = fixed_workload("short", PROMPT_TOKENS, OUTPUT_TOKENS, stages=[(rate, seconds)])
    endpoint = look_at(ProbeTarget(url=url, api="completions"))
    run = run_load(LoadPlan(endpoint=endpoint, workload=workload, cores=spare_cores()))
    found = run.summary
    print(f"{found.good} good of {found.offered}; {run.validity}", flush=True)
    print(f"  TTFT p50 {found.ttft_p50}, p99 {found.ttft_p99}", flush=True)
    return run


def foreign_cpu_s(server_pid: int) -> float:
    """CPU seconds that the machine spent so far on what is neither the service nor this program."""
    spent = psutil.cpu_times()
    own = sum(os.times()[:4])  # with that of the load worker, which has ended
    server = psutil.Process(server_pid)
    for process in (server, *server.children(recursive=True)):
        times = process.cpu_times()
        own += times.user + times.system
    return float(spent.user + spent.nice + spent.system - own)


def spare_cores() -> list[int] | None:
    """The cores that the demo service does not compute on; None when there are none."""
    threads = model_threads(load_service(ROOT / "examples" / "demo.yaml"))
    return sorted(os.sched_getaffinity(0))[threads:] or None


def store(runs: Sequence[Sequence[RequestRecord]], duration_s: float, path: Path) -> None:
    """One row a request over all runs; ``requests`` says how many belong to each run."""
    every = [record for run in runs for record in run]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        duration_s=np.float64(duration_s),
        requests=np.array([len(run) for run in runs]),
        outcomes=np.array(OUTCOMES),
        outcome=np.array([OUTCOMES.index(record.outcome) for record in every], np.uint8),
        intended_s=_column([record.intended_s for record in every]),
        ttft=_column([record.ttft for record in every]),
        tpot=_column([record.tpot for record in every]),
        e2e=_column([record.e2e for record in every]),
        tokens=np.array([record.tokens_out for record in every], np.uint16),
    )


def _column(values: Sequence[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array([np.nan if value is None else value for value in values], np.float32)


if __name__ == "__main__":
    main()
