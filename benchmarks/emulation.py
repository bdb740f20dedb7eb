"""Whether emulated replicas are small, quick to start and punctual: eight on this machine.

Starts the example fleet, offers it conversations at a stated share of what its profile's step times
allow, and asks it how late its steps were. Beyond 5 % of a step at p99, or with less than 15 % of
the machine idle, whatever else is measured on it is void.

Run as: python benchmarks/emulation.py [--seconds 60] [--rate 4]
"""

from __future__ import annotations

import argparse
import json
import statistics
import urllib.request
from typing import Any

import psutil

import systems
from client import ROOT, lag_p99_ms, played
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan
from forebay.measure import MOST_LATE
from forebay.spec.workload import fixed_workload
from tables import Bar, exit_by_bars, print_bars, print_table, write

FILE = ROOT / "examples" / "emulated-fleet.yaml"
PORT = 8000
PROMPT, OUTPUT = 1000, 100
REPLICA_MB, START_S, IDLE = 300.0, 5.0, 15.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=8.0, help="requests/s of the whole fleet")
    options = parser.parse_args()
    command = systems.forebay(PORT, FILE)
    with systems.running("emulation", command, PORT, model_cores=1) as server:
        memory = replica_megabytes(server)
        psutil.cpu_percent()
        run = played(
            LoadPlan(
                endpoint=Endpoint(url=server.url, model="llama-8b"),
                workload=fixed_workload(
                    "fleet", PROMPT, OUTPUT, stages=[(options.rate, options.seconds)], seed=1
                ),
                timeout_s=600.0,
            )
        )
        idle = 100.0 - psutil.cpu_percent()
        status = fleet(server.url)
        ready_s = server.notes["ready_s"]
    late = [100 * replica["late_p99"] for replica in status["replicas"]]
    rows = [
        (one["replica"], one["output_tokens"], round(share, 2), one["prediction_error"])
        for one, share in zip(status["replicas"], late, strict=True)
    ]
    found = run.summary
    print(
        f"\nready in {ready_s} s with Ray; {found.offered} requests of {PROMPT} + {OUTPUT} tokens, "
        f"{found.shed} shed, {found.failed} failed; TTFT p99 {found.ttft_p99}; client lag p99 "
        f"{lag_p99_ms(run):.2f} ms; {idle:.0f} % idle"
    )
    print_table(("replica", "tokens", "late p99, % of a step", "prediction off by"), rows)
    bars = [
        Bar("memory of a replica, at most", max(memory), REPLICA_MB, "MB"),
        Bar("lateness p99 of the worst replica", max(late), 100 * MOST_LATE, "% of a step"),
        Bar("machine idle", idle, IDLE, "%", at_least=True),
        Bar("requests failed", run.summary.failed, 0),
    ]
    print_bars(bars)
    write("emulation", {"memory_mb": memory, "late_percent": late, "idle_percent": idle,
                        "ready_s": ready_s, "mean_late": statistics.mean(late),
                        "bars": [bar.as_dict() for bar in bars]})  # fmt: skip


def replica_megabytes(server: systems.Server) -> list[float]:
    """Resident memory of each replica's process."""
    return [
        size / 1e6
        for name, size in server.memory().items()
        if name.startswith("ray::ServeReplica:emulated-fleet:emul")  # names are cut
    ]


def fleet(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/forebay/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


if __name__ == "__main__":
    exit_by_bars(main)
