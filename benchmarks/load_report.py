"""What a long run costs once it is over: 100,000 requests summed up, written, read and drawn.

In a process of its own, whose peak memory is that of all this and nothing else.

Run as: python benchmarks/load_report.py [--requests 100000] [--tokens 64]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from forebay.load.plan import Endpoint
from forebay.load.results import judged, read_run
from forebay.load.run import LoadRun
from forebay.measure import ClientFacts, RequestRecord, ServerSample
from forebay.measure.validity import judge
from forebay.spec.workload import fixed_workload
from tables import Bar, exit_by_bars, print_bars, print_table, write

RATE = 100.0  # requests/s: 100,000 of them are 17 minutes
MOST_S, MOST_MIB = 20.0, 1e9 / 2**20
SHED, FAILED = 0.05, 0.01

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=64, help="token times of each")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.requests, options.tokens)))
        return
    command = [sys.executable, __file__, "--child"]
    command += ["--requests", str(options.requests), "--tokens", str(options.tokens)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    report(json.loads(done.stdout))


def measured(requests: int, tokens: int) -> dict[str, Any]:
    """Seconds of each step and peak memory, in this process."""
    run = synthetic(requests, tokens)
    made_mib = peak_mib()
    samples = [ServerSample(t=float(t), running=30.0) for t in range(int(run.duration_s))]
    endpoint = Endpoint(url="http://127.0.0.1:8000", model="synthetic")
    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], T]) -> T:
        began, cpu = time.perf_counter(), time.process_time()
        result = work()
        seconds[name] = time.perf_counter() - began
        cpu_seconds[name] = time.process_time() - cpu
        return result

    timed("summary of all", lambda: run.summary)
    whole = timed("intervals, and what bound", lambda: judged(run, endpoint, samples))
    with tempfile.TemporaryDirectory(prefix="forebay-report-") as name:
        folder = Path(name)
        timed("folder: requests, summary, report", lambda: whole.write(folder))
        back = timed("read again", lambda: read_run(folder))
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    assert len(back.records) == requests
    return {
        "requests": requests,
        "tokens": tokens,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "records_alone_mib": made_mib,
        "peak_mib": peak_mib(),
        "bytes": sizes,
    }


def synthetic(requests: int, tokens: int) -> LoadRun:
    """A run as it might have been: most served, some shed, a few failed."""
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.exponential(1 / RATE, requests))
    lag = rng.exponential(0.0005, requests)
    ttft = rng.lognormal(np.log(0.2), 0.6, requests)
    luck = rng.random(requests)
    records = [
        record(index, at[index], lag[index], ttft[index], luck[index], tokens, rng)
        for index in range(requests)
    ]
    client = ClientFacts(
        realtime=True,
        lag_p50_s=float(np.median(lag)),
        lag_p99_s=float(np.quantile(lag, 0.99)),
        lag_max_s=float(lag.max()),
        planned=requests,
        begun=requests,
    )
    seconds = float(np.ceil(at[-1]))
    return LoadRun(
        records=records,
        client=client,
        validity=judge(client),
        started_at=1.8e9,
        duration_s=seconds,
        workload=fixed_workload("synthetic", 180, tokens, stages=[(RATE, seconds)]),
        salt="synthetic",
    )


def record(
    index: int,
    at: float,
    lag: float,
    ttft: float,
    luck: float,
    tokens: int,
    rng: np.random.Generator,
) -> RequestRecord:
    """One request of it."""
    shared: dict[str, Any] = {
        "index": index,
        "session": index,
        "intended_s": float(at),
        "sent_s": float(at + lag),
        "prompt_tokens": 180,
        "max_tokens": tokens,
        "kind": "chat" if index % 4 else "rag",
        "class_name": "interactive" if index % 5 else "batch",
    }
    if luck < SHED:
        return RequestRecord(
            **shared, ended_s=float(at + lag + 0.005), status=429, outcome="shed",
            reason="ttft_budget", retry_after_s=1.0,
        )  # fmt: skip
    if luck < SHED + FAILED:
        return RequestRecord(
            **shared, ended_s=float(at + 60), status=0, outcome="timeout", reason="no end in 60 s"
        )
    times = at + ttft + np.concatenate([[0.0], np.cumsum(rng.exponential(0.02, tokens - 1))])
    return RequestRecord(
        **shared,
        first_byte_s=float(times[0]),
        first_token_s=float(times[0]),
        last_token_s=float(times[-1]),
        ended_s=float(times[-1]),
        status=200,
        outcome="ok",
        tokens_out=tokens,
        token_times=array("d", times.tobytes()),
    )


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(found: dict[str, Any]) -> None:
    print(f"\n{found['requests']:,} requests of {found['tokens']} tokens, each token's time kept")
    steps = [(name, s, found["cpu_seconds"][name]) for name, s in found["seconds"].items()]
    print_table(("step", "s", "of CPU"), steps)
    print_table(("file", "MiB"), [(n, size / 2**20) for n, size in found["bytes"].items()])
    print(f"\npeak memory {found['peak_mib']:.0f} MiB, of which making the records took "
          f"{found['records_alone_mib']:.0f}")  # fmt: skip
    bars = [
        Bar("summary, report, write and read", sum(found["seconds"].values()), MOST_S, "s"),
        Bar("peak memory", found["peak_mib"], MOST_MIB, "MiB"),
    ]
    print_bars(bars)
    write("load_report", {**found, "bars": [bar.as_dict() for bar in bars]})


if __name__ == "__main__":
    exit_by_bars(main)
