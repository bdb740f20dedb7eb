"""Eight emulated replicas far beyond capacity: Forebay against bounds on requests in flight.

Poisson arrivals of 1,000 tokens in and 100 out at a few times the capacity, which is computed from
the profile (`fleet_parts.capacity`). The rival is Ray's power-of-two-choices router before plain
replicas that answer 503 while they have so many requests in flight; six such bounds are tried. Good
is a request that finished with its first token within the slowed SLO; how many of those also kept
the SLO's time per token stands beside it. All answers are of one length, and an empty fleet fills
at once: it then works in waves of about a minute, of which a run has to have several.

CPU per refusal: what all processes use more where three times as many are offered, over how many
more are refused. A fleet that is full at 2 x serves as much at 6 x, so all else that they do is the
same. Runs of one length are mirrored (2, 6, 6 and 2 x), since the pace of a machine drifts.

Run as: python benchmarks/fleet_overload.py [--factors 3,4] [--bounds 48,64,...] [--seconds 240]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import systems
from client import aborted, admitted_ttft, lag_p99_ms, played
from fleet_parts import (
    FILE,
    SERVICE,
    TPOT_S,
    TTFT_S,
    capacity,
    in_flight,
    in_time,
    late_percent,
    status,
    until_quiet,
)
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import MOST_LATE, percentile
from forebay.spec.workload import fixed_workload
from routers import Replicas, written
from tables import Bar, exit_by_bars, print_bars, print_table, write

PORT = 8000
PROMPT, ANSWER = 1000, 100
BOUNDS = (32, 48, 64, 96, 128, 192)
FEW_X, MANY_X = 2.0, 6.0  # of the runs that are made for the refusals' CPU alone,
REFUSALS_S = 120.0  # and the length of each
TAKEN_S = 1.0  # until a replica has read another bound
FILLS_S = 2 * TTFT_S  # an empty fleet takes whatever comes first; counted is who comes later
LEAST_OF_STATIC, REFUSAL_MS, REFUSAL_CPU_MS = 0.95, 50.0, 2.5

Row = dict[str, Any]


@dataclass(frozen=True)
class Fleet:
    """A system that runs, and how to see what it is at."""

    server: systems.Server
    replicas: Callable[[], Replicas]
    busy: Callable[[], int]

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(self.server.cpu_seconds().values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", default="3,4", help="x the capacity")
    parser.add_argument("--bounds", default=",".join(map(str, BOUNDS)), help="empty: no rival")
    parser.add_argument("--seconds", type=float, default=240.0, help="of each run")
    parser.add_argument("--refusals", type=float, default=REFUSALS_S, help="s, for CPU; 0: none")
    parser.add_argument("--no-forebay", action="store_true")
    options = parser.parse_args()
    factors = [float(factor) for factor in options.factors.split(",") if factor]
    bounds = [int(bound) for bound in options.bounds.split(",") if bound]
    print(f"capacity by the profile: {capacity(PROMPT, ANSWER):.2f} requests/s")
    ours: list[Row] = []
    for_cpu: list[Row] = []
    if not options.no_forebay:
        ours, for_cpu = forebay(factors, options.seconds, options.refusals)
    theirs = static(bounds, factors, options.seconds) if bounds else []
    rows = ours + for_cpu + theirs
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    bars = judged(ours + for_cpu, theirs) if ours + for_cpu else []
    if for_cpu:
        bars.append(Bar("CPU of a refusal", refusal_cpu_ms(for_cpu), REFUSAL_CPU_MS, "ms"))
    if bars:
        print_bars(bars)
    write("fleet_overload", {"rows": rows, "bars": [bar.as_dict() for bar in bars]})


def forebay(
    factors: Sequence[float], seconds: float, refusals_s: float
) -> tuple[list[Row], list[Row]]:
    """Forebay at each factor, and the runs that tell what a refusal costs."""
    command = systems.forebay(PORT, FILE)
    with systems.running("fleet-forebay", command, PORT, model_cores=1) as server:
        fleet = Fleet(
            server,
            lambda: list(status(server.url)["replicas"]),
            lambda: in_flight(status(server.url)),
        )
        rows = [measured("forebay", fleet, factor, seconds) for factor in factors]
        mirrored = (FEW_X, MANY_X, MANY_X, FEW_X) if refusals_s else ()
        return rows, [measured("forebay", fleet, factor, refusals_s) for factor in mirrored]


def static(bounds: Sequence[int], factors: Sequence[float], seconds: float) -> list[Row]:
    """Ray's own router before replicas with each of these bounds, one start for all of them."""
    with plain() as (fleet, folder):
        rows = []
        for bound in bounds:
            (folder / "bound").write_text(str(bound))
            time.sleep(TAKEN_S)
            rows += [measured(f"{bound} each", fleet, factor, seconds) for factor in factors]
    return rows


@contextmanager
def plain() -> Iterator[tuple[Fleet, Path]]:
    """Plain replicas behind Ray's power of two choices, and the folder that they look at."""
    script = str(Path(__file__).with_name("emulated_stock.py"))
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as name:
        folder = Path(name)
        command = [sys.executable, script, str(FILE), str(PORT), name, "power-of-two"]
        with systems.running("fleet-static", command, PORT, model_cores=1) as server:

            def busy() -> int:
                return sum(one["in_flight"] for one in written(folder))

            yield Fleet(server, lambda: written(folder), busy), folder


def measured(name: str, fleet: Fleet, factor: float, seconds: float) -> Row:
    """One system at so many times the capacity."""
    until_quiet(fleet.busy)
    cpu_s, began = fleet.cpu_s(), time.monotonic()
    psutil.cpu_percent()
    run = offered(fleet.server.url, factor * capacity(PROMPT, ANSWER), seconds)
    idle = 100.0 - psutil.cpu_percent()
    used_s, wall_s = fleet.cpu_s() - cpu_s, time.monotonic() - began
    found = {"system": name, "x": factor, "seconds": seconds, **told(run)}
    late = late_percent(fleet.replicas())
    found |= {"late p99 %": late, "idle %": idle, "lag p99 ms": lag_p99_ms(run)}
    found |= {"valid": run.validity.valid, "CPU s": used_s, "wall s": wall_s}
    print_table(list(found), [tuple(found.values())])
    return found


def offered(url: str, rate: float, seconds: float) -> LoadRun:
    """Poisson arrivals at `rate`, to the end of the last answer."""
    spec = fixed_workload("fleet", PROMPT, ANSWER, stages=[(rate, seconds)], seed=1)
    endpoint = Endpoint(url=url, model=SERVICE.model.id)
    return played(LoadPlan(endpoint=endpoint, workload=spec, timeout_s=400.0))


def told(run: LoadRun) -> Row:
    """What the clients saw."""
    records = run.records
    fills_s = min(FILLS_S, run.duration_s / 2)
    full, full_s = [r for r in records if r.intended_s >= fills_s], run.duration_s - fills_s
    served = [r for r in records if r.outcome == "ok"]
    refused = [1e3 * r.e2e for r in records if r.outcome == "shed"]
    paces = [r.tpot for r in served if r.tpot is not None]
    return {
        "offered/s": len(records) / run.duration_s,
        "served": len(served),
        "good/s": in_time(full) / full_s,
        "and in pace": sum(r.is_good(TTFT_S, TPOT_S) for r in full) / full_s,
        "TTFT p50 s": admitted_ttft(records, 50),
        "TTFT p99 s": admitted_ttft(records, 99),
        "aborted": aborted(records),
        "TPOT p50 s": percentile(paces, 50),
        "refused": len(refused),
        "refusal p99 ms": percentile(refused, 99),
        "failed": sum(r.failure for r in records),
        "tokens out": sum(r.tokens_out for r in records),
    }


def refusal_cpu_ms(rows: Sequence[Row]) -> float | None:
    """CPU of one refusal more in ms, of mirrored runs; None without any."""

    def more(key: str) -> float:
        return float(sum(row[key] * (1.0 if row["x"] == MANY_X else -1.0) for row in rows))

    if not rows or more("refused") <= 0:
        return None
    each_ms = 1e3 * more("CPU s") / more("refused")
    return each_ms if each_ms > 0.0 else None  # the machine's pace changed by more


def judged(ours: list[Row], theirs: list[Row]) -> list[Bar]:
    """Forebay against the best bound at each factor, and by itself."""
    bars = []
    for x in sorted({row["x"] for row in theirs}):
        best = max((row for row in theirs if row["x"] == x), key=lambda row: row["good/s"])
        good = next(row["good/s"] for row in ours if row["x"] == x)
        name = f"good/s at {x:g} x, of the best bound ({best['system']})"
        if not best["good/s"]:  # too large all of them: that says nothing of bounds
            name = f"good/s at {x:g} x, of the best bound (try smaller ones: these have none)"
        ratio = good / best["good/s"] if best["good/s"] else None
        bars.append(Bar(name, ratio, LEAST_OF_STATIC, at_least=True))
    refusals = [row["refusal p99 ms"] for row in ours]
    worst_ms = None if None in refusals else max(refusals)
    return [
        *bars,
        Bar("TTFT p99 of the served", max(row["TTFT p99 s"] for row in ours), TTFT_S, "s"),
        Bar("refusal p99", worst_ms, REFUSAL_MS, "ms"),
        Bar("lateness p99 of the worst replica",
            max(row["late p99 %"] for row in ours + theirs), 100 * MOST_LATE, "% of a step"),
        Bar("runs whose client was late", sum(not row["valid"] for row in ours + theirs), 0),
    ]  # fmt: skip


if __name__ == "__main__":
    exit_by_bars(main)
