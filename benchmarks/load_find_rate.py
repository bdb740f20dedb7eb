"""Whether `forebay load --find-rate` finds the rate that is there, and the same one again.

- mock: 128 slots, each held for exactly 520 ms by a request: 246 requests/s and not one more. What
  Poisson arrivals can have of that within the objective is a little less, since a queue forms
  before a server is full; with so many slots by about 1 % (an M/D/c queue's wait has a tail of mean
  held / (2 slots (1 - load)); its 99th percentile reaches the objective of 1 s at a load of 0.99).
- demo: the demo platform, searched several times over, each time with another seed and nothing
  remembered from the time before.

Run as: python benchmarks/load_find_rate.py [--parts mock,demo] [--repeats 5]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import systems
from client import SHORT, settle, spare_cores
from forebay.capacity import Trial
from forebay.load.plan import Endpoint
from forebay.load.results import Goal, RateFound, find_rate
from forebay.load.run import LoadPlan, LoadRun
from forebay.spec.workload import fixed_workload
from mock_peer import running_mock, two_cores
from tables import Bar, exit_by_bars, print_bars, print_table, write

SLOTS, TTFT_MS, ITL_MS, TOKENS = 128, 50, 10, 48
CAPACITY = SLOTS / (1e-3 * (TTFT_MS + ITL_MS * (TOKENS - 1)))  # requests/s
OFF_PERCENT, SPREAD_PERCENT = 5.0, 10.0
PORT = 8000

Part = tuple[dict[str, Any], list[Bar]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="mock,demo")
    parser.add_argument("--repeats", type=int, default=5, help="searches of the demo platform")
    options = parser.parse_args()
    parts: dict[str, Callable[[], Part]] = {
        "mock": known,
        "demo": lambda: repeated(options.repeats),
    }
    found: dict[str, Any] = {}
    bars: list[Bar] = []
    for part in options.parts.split(","):
        found[part], asked = parts[part]()
        bars += asked
    print_bars(bars)
    write("load_find_rate", {**found, "bars": [bar.as_dict() for bar in bars]})


def known() -> Part:
    """A search on a mock whose capacity is arithmetic."""
    mock = {"ttft": f"{TTFT_MS}ms", "itl": f"{ITL_MS}ms", "slots": SLOTS, "log": None}
    with running_mock("find-rate", **mock) as peer:
        plan = plan_of(peer.url, "mock", [two_cores()[1]], seed=11)
        row = searched(plan, "mock")
    off = 100 * (row["found"] / CAPACITY - 1)
    print(f"\nmock of {CAPACITY:.1f}/s: found {row['found']:.1f}/s, {off:+.1f} %")
    bar = Bar("mock: found rate off its capacity by", abs(off), OFF_PERCENT, "%")
    return {"capacity": CAPACITY, **row}, [bar]


def repeated(repeats: int) -> Part:
    """Searches of the demo platform, one after the other."""
    rows = []
    with systems.running("find-rate", systems.forebay(PORT), PORT) as server:
        for number in range(repeats):
            settle(server.url)
            plan = plan_of(server.url, systems.MODEL, spare_cores(), seed=100 * (number + 1))
            rows.append(searched(plan, f"demo {number + 1}"))
    rates = [row["found"] for row in rows]
    middle = sorted(rates)[len(rates) // 2]
    spread = 100 * (max(rates) - min(rates)) / middle
    print(f"\nthe demo platform, {SHORT.prompt_tokens} tokens in and {SHORT.output_tokens} out")
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    name = f"demo: largest less smallest of {repeats}, over the median"
    return {"runs": rows}, [Bar(name, spread, SPREAD_PERCENT, "%")]


def plan_of(url: str, model: str, cores: list[int] | None, seed: int) -> LoadPlan:
    """Short requests; the search chooses the rates."""
    workload = fixed_workload(
        "find-rate", SHORT.prompt_tokens, TOKENS, stages=[(1.0, 10.0)], seed=seed
    )
    return LoadPlan(endpoint=Endpoint(url=url, model=model), workload=workload, cores=cores)


def searched(plan: LoadPlan, name: str) -> dict[str, Any]:
    """One search, told trial by trial; its answer as a row."""

    def tell(trial: Trial, run: LoadRun) -> None:
        verdict = "sustained" if trial.sustained else "not sustained"
        lag = 1e3 * (run.client.lag_p99_s or 0.0)
        print(f"{name}: {trial.rate:.1f}/s {verdict}, {trial.reason}; lag p99 {lag:.2f} ms",
              file=sys.stderr)  # fmt: skip

    started = time.monotonic()
    answer: RateFound = find_rate(plan, Goal(), tell)
    return {
        "search": name,
        "found": answer.found.rate,
        "lowest that failed": answer.found.high,
        "trials": len(answer.trials),
        "seconds": round(time.monotonic() - started),
    }


if __name__ == "__main__":
    exit_by_bars(main)
