"""Forebay's unchanged demo file against every static bound that somebody might have set.

Five workloads, open loop, at 3 and 4 x capacity: short, long prompts, long outputs, a mix of the
three by equal numbers, and a shift from short to long prompts in mid-run. The rivals are vLLM's own
server behind HAProxy (`bounded_vllm.py`) with one bound each: requests in flight, and vLLM's
`max_num_queued_reqs` and `max_num_queued_tokens`, six values of each. All of them are tried on
every workload at 3 x for a short time; the best two of each workload, known by hindsight, are then
run as long as Forebay is. Good is a request that finished with its first token within 1 s; counted
are those sent once the engine has filled up. Whoever is let in and aborted has an endless TTFT.

A machine may be twice as fast some minutes later. So a few clients in a closed loop, whom no system
refuses, show its pace before and after each run. What one system does is compared over that;
between systems, whose paths differ, it says whether a comparison is worth anything.

Run as: python benchmarks/static_bounds.py --capacity '{"short": 89, "long prompts": 10,
"long outputs": 15}' (as overload.py prints it) [--parts sweep,rivals,forebay,retries]
[--workloads "short,long prompts"], for a workload at a time
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import systems
from client import (
    ROOT,
    SHORT,
    WORKLOADS,
    Workload,
    aborted,
    admitted_ttft,
    completion_rate,
    lag_p99_ms,
    load,
    settle,
    spare_cores,
    traced,
)
from forebay.load.order import Endpoint
from forebay.load.runner import LoadPlan, LoadRun, run_load
from forebay.measure.percentiles import percentile
from tables import Bar, print_bars, print_table, write

PORT = 8000
SLO_S = 1.0
FACTORS = (3.0, 4.0)
SWEEP_S, WARM_S, RUN_S = 10.0, 2.0, 40.0
FILLS_S = 6.0  # an empty engine takes whatever comes first, whatever is in front of it
SEQUENCES = (8, 14, 32, 64, 80, 128)
TOKENS = (300, 1_200, 4_500, 9_000, 13_500, 18_000)
LEAST_OF_BEST, REFUSAL_MS, REFUSAL_CPU_MS, MOST_LOST = 0.95, 100.0, 2.5, 0.05
PACE_CLIENTS, PACE_S, PACE_SPREAD = 16, 6.0, 1.1
PACE_SEEDS = count(1_000)  # prompts that were sent before would be in the cache
CLIENTS_ATTEMPTS = 3  # of the official client, by default
STORED = ROOT / "runs" / "static_bounds_sweep.json"


@dataclass(frozen=True)
class Bound:
    """One static bound."""

    kind: str
    value: int

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"

    def set_on(self, url: str) -> None:
        """Put it, and no other, in force."""
        set_bounds(url, {self.kind: self.value})


def set_bounds(url: str, bounds: dict[str, int]) -> None:
    """These are in force at a rival, and no others."""
    body = {"in_flight": None, "queued_reqs": None, "queued_tokens": None, **bounds}
    request = urllib.request.Request(
        f"{url}/bounds", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30):
        pass


BOUNDS = [
    Bound(kind, value)
    for kind, values in (
        ("in_flight", SEQUENCES),
        ("queued_reqs", SEQUENCES),
        ("queued_tokens", TOKENS),
    )
    for value in values
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", required=True, help="JSON: requests/s of each workload")
    parser.add_argument("--parts", default="sweep,rivals,forebay,retries")
    parser.add_argument("--workloads", default=",".join(NAMES))
    parser.add_argument("--seconds", type=float, default=RUN_S)
    options = parser.parse_args()
    capacity: dict[str, float] = json.loads(options.capacity)
    capacity["mix"] = len(WORKLOADS) / sum(1 / capacity[name] for name in WORKLOADS)
    parts, names = options.parts.split(","), options.workloads.split(",")
    if unknown := set(names) - set(NAMES):
        parser.error(f"--workloads knows {', '.join(NAMES)}; not {', '.join(sorted(unknown))}")
    rows: list[dict[str, Any]] = []
    swept: dict[str, dict[str, float]] = {}
    if "sweep" in parts or "rivals" in parts:
        with systems.running("bounded-vllm", bounded(), PORT) as server:
            if "sweep" in parts:
                swept = sweep(server.url, names, capacity)
                write(STORED.stem, {**stored(), **swept})
            swept = {name: stored()[name] for name in names}
            if "rivals" in parts:
                rows += rivals(server, names, capacity, swept, options.seconds)
    if "forebay" in parts or "retries" in parts:
        with systems.running("forebay", systems.forebay(PORT), PORT) as server:
            if "forebay" in parts:
                rows += ours(server, names, capacity, options.seconds)
            if "retries" in parts:
                rows += retried(server, capacity, options.seconds)
    if rows:
        print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    known = stored()
    bars = judged(rows, swept or {name: known[name] for name in names if name in known})
    print_bars(bars)
    part = "" if names == list(NAMES) else "_" + "_".join(names).replace(" ", "_")
    write(
        f"static_bounds{part}",
        {"capacity": capacity, "sweep": swept, "rows": rows, "bars": [b.as_dict() for b in bars]},
    )


def stored() -> dict[str, dict[str, float]]:
    """What earlier sweeps found, by workload."""
    if not STORED.exists():
        return {}
    found: dict[str, dict[str, float]] = json.loads(STORED.read_text())
    return found


def bounded() -> list[str]:
    """The command of the rival."""
    vllm = systems.raw_vllm(PORT)
    options = vllm[vllm.index("--model") :]
    at = options.index("--port")
    script = str(Path(__file__).with_name("bounded_vllm.py"))
    return [sys.executable, script, str(PORT), *options[:at], *options[at + 2 :]]


# --- what is offered ------------------------------------------------------------------------------


def arrivals(
    name: str, factor: float, capacity: dict[str, float], seconds: float, seed: int
) -> Any:
    """Poisson arrivals of a workload: (at, prompt tokens, output tokens), in order."""
    if name == "shift":
        first = arrivals("short", factor, capacity, seconds / 2, seed)
        second = arrivals("long prompts", factor, capacity, seconds / 2, seed + 1)
        return first + [(seconds / 2 + at, *lengths) for at, *lengths in second]
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(
        1 / (factor * capacity[name]), int(2 * factor * capacity[name] * seconds)
    )
    kinds: Sequence[Workload] = list(WORKLOADS.values()) if name == "mix" else [WORKLOADS[name]]
    asked = []
    for at in np.cumsum(gaps):
        kind = kinds[int(rng.integers(len(kinds)))]
        asked.append((float(at), kind.prompt_tokens, kind.output_tokens))
    return [one for one in asked if one[0] < seconds]


NAMES = (*WORKLOADS, "mix", "shift")


def play(
    url: str,
    name: str,
    factor: float,
    capacity: dict[str, float],
    seconds: float,
    *,
    seed: int,
    attempts: int = 1,
) -> LoadRun:
    """Offer a workload at a multiple of its capacity."""
    settle(url)
    rows = [
        {"at_s": at, "prompt_tokens": prompt, "output_tokens": output}
        for at, prompt, output in arrivals(name, factor, capacity, seconds, seed)
    ]
    with traced(name, rows) as spec:
        return run_load(
            LoadPlan(
                endpoint=Endpoint(url=url, model=systems.MODEL),
                workload=spec,
                cores=spare_cores(),
                timeout_s=60.0,
                attempts=attempts,
            )
        )


def good_per_s(run: LoadRun, seconds: float, after_s: float = 0.0) -> float:
    """Good requests/s among those meant to be sent after a first while."""
    good = sum(r.is_good(SLO_S) for r in run.records if r.intended_s >= after_s)
    return good / (seconds - after_s)


# --- the systems ----------------------------------------------------------------------------------


def sweep(
    url: str, names: Sequence[str], capacity: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Good requests of every bound on every workload at 3 x, for each of the pace."""
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    for bound in BOUNDS:
        before = pace_of(url, bound)
        for name in names:
            run = play(url, name, FACTORS[0], capacity, SWEEP_S, seed=21)
            after = pace_of(url, bound)
            found[name][str(bound)] = 2 * good_per_s(run, SWEEP_S, WARM_S) / (before + after)
            before = after
        shown = ", ".join(f"{name} {found[name][str(bound)]:.3f}" for name in names)
        print(f"  {bound}: {shown}", flush=True)
    return found


def rivals(
    server: systems.Server,
    names: Sequence[str],
    capacity: dict[str, float],
    swept: dict[str, dict[str, float]],
    seconds: float,
) -> list[dict[str, Any]]:
    """The best two bounds of each workload, as long as Forebay is run."""
    rows = []
    bounds = {str(bound): bound for bound in BOUNDS}
    for name in names:
        for best in sorted(swept[name], key=lambda b: -swept[name][b])[:2]:
            rows += [
                measured(server, best, name, factor, capacity, seconds, bound=bounds[best])
                for factor in FACTORS
            ]
    return rows


def pace_of(url: str, bound: Bound | None) -> float:
    """Short requests/s of a few clients, each waiting for its answer, without the bound."""
    if bound is not None:
        set_bounds(url, {})
    settle(url)
    run = load(url, SHORT, clients=PACE_CLIENTS, seconds=PACE_S, seed=next(PACE_SEEDS))
    if bound is not None:
        bound.set_on(url)
    return completion_rate(run, PACE_CLIENTS)


def ours(
    server: systems.Server, names: Sequence[str], capacity: dict[str, float], seconds: float
) -> list[dict[str, Any]]:
    return [
        measured(server, "forebay", name, factor, capacity, seconds)
        for name in names
        for factor in FACTORS
    ]


def retried(
    server: systems.Server, capacity: dict[str, float], seconds: float
) -> list[dict[str, Any]]:
    """Short requests at 3 x whose clients try again, as the official one does, and do not."""
    return [
        measured(server, f"forebay, {attempts} attempts", "short", 3.0, capacity, seconds, attempts)
        for attempts in (1, CLIENTS_ATTEMPTS, 1, CLIENTS_ATTEMPTS)
    ]


def measured(
    server: systems.Server,
    system: str,
    name: str,
    factor: float,
    capacity: dict[str, float],
    seconds: float,
    attempts: int = 1,
    bound: Bound | None = None,
) -> dict[str, Any]:
    """One cell of the table; `bound` is that of a rival."""
    pace_before = pace_of(server.url, bound)
    before = sum(server.cpu_seconds().values())
    run = play(server.url, name, factor, capacity, seconds, seed=31, attempts=attempts)
    cpu_s = sum(server.cpu_seconds().values()) - before
    good = good_per_s(run, seconds, FILLS_S)
    pace = (pace_before + pace_of(server.url, bound)) / 2
    late = aborted(run.records)
    refused = [r for r in run.records if r.outcome == "shed" and r.reason != "deadline_exceeded"]
    row = {
        "system": system,
        "workload": name,
        "x": factor,
        "offered/s": len(run.records) / seconds,
        "good/s": good,
        "pace/s": pace,
        "good of pace": good / pace,
        "TTFT p50 s": admitted_ttft(run.records, 50),
        "TTFT p99 s": admitted_ttft(run.records, 99),
        "aborted": late,
        "refused": len(refused),
        "refusal p99 ms": percentile([1e3 * r.e2e for r in refused], 99),
        "failed": sum(r.outcome not in ("ok", "shed") for r in run.records),
        "CPU s": cpu_s,
        "lag p99 ms": lag_p99_ms(run),
        "valid": run.validity.valid,
    }
    print_table(list(row), [tuple(row.values())])
    return row


# --- the verdict ----------------------------------------------------------------------------------


def judged(rows: list[dict[str, Any]], swept: dict[str, dict[str, float]]) -> list[Bar]:
    """Each bar that the rows have figures for."""
    mine = [row for row in rows if row["system"] == "forebay"]
    theirs = [row for row in rows if not row["system"].startswith("forebay")]
    bars = []
    for row in mine:
        cell = f"{row['workload']} {row['x']:g} x"
        here = [r for r in theirs if (r["workload"], r["x"]) == (row["workload"], row["x"])]
        if here:
            best = max(here, key=lambda r: r["good/s"])
            share = row["good/s"] / best["good/s"]
            bars.append(
                Bar(f"{cell}: good/s, x of {best['system']}", share, LEAST_OF_BEST, at_least=True)
            )
        bars.append(Bar(f"{cell}: TTFT p99", row["TTFT p99 s"], SLO_S, "s"))
        bars.append(Bar(f"{cell}: refusal p99", row["refusal p99 ms"], REFUSAL_MS, "ms"))
    bars += [cpu_per_refusal(mine)] if any(r["workload"] == "short" for r in mine) else []
    bars += worst_cases(mine, theirs, swept) if swept else []
    if mine:
        bars.append(Bar("requests of ours that failed", sum(row["failed"] for row in mine), 0))
        late = sum(not row["valid"] for row in rows)
        bars.append(Bar("runs whose client was late", late, 0))
    for one, of_one in (("theirs", theirs), ("ours", mine)):
        if of_one:
            paces = [row["pace/s"] for row in of_one]
            name = f"pace of the machine in {one}, the most over the least"
            bars.append(Bar(name, max(paces) / min(paces), PACE_SPREAD, "x"))
    bars += lost_to_retries(rows)
    return bars


def cpu_per_refusal(mine: list[dict[str, Any]]) -> Bar:
    """What the refusals that 4 x brings beyond those of 3 x cost all processes together."""
    short = {row["x"]: row for row in mine if row["workload"] == "short"}
    low, high = (short[factor] for factor in FACTORS)
    more = high["refused"] - low["refused"]
    each_ms = 1e3 * (high["CPU s"] - low["CPU s"]) / max(more, 1)
    told = each_ms if each_ms > 0.0 else None  # or the engine's part differs by more than all that
    return Bar("short: CPU per refusal, all processes", told, REFUSAL_CPU_MS, "ms")


def worst_cases(
    mine: list[dict[str, Any]],
    theirs: list[dict[str, Any]],
    swept: dict[str, dict[str, float]],
) -> list[Bar]:
    """The best single bound's worst workload in the sweep, beside ours in the long runs."""
    best = {name: max(found.values()) for name, found in swept.items()}
    worst = {
        bound: min(swept[name][bound] / max(best[name], 1e-9) for name in swept)
        for bound in next(iter(swept.values()))
    }
    single = max(worst, key=lambda bound: worst[bound])
    print(f"\nbest single static bound: {single}; on its worst workload {worst[single]:.2f} of the "
          "best bound there")  # fmt: skip
    run = {
        row["workload"]: row["good/s"]
        for row in sorted(theirs, key=lambda row: row["good/s"])
        if row["x"] == FACTORS[0]
    }
    shares = [
        row["good/s"] / run[row["workload"]]
        for row in mine
        if row["x"] == FACTORS[0] and row["workload"] in run
    ]
    if not shares:
        return []
    return [Bar("our worst workload, of the best bound there", min(shares), worst[single],
                at_least=True)]  # fmt: skip


def lost_to_retries(rows: list[dict[str, Any]]) -> list[Bar]:
    """Goodput with the official client's retries, beside that without."""
    with_them, without = (
        [r["good of pace"] for r in rows if r["system"] == f"forebay, {attempts} attempts"]
        for attempts in (CLIENTS_ATTEMPTS, 1)
    )
    if not with_them:
        return []
    lost = 1 - sum(with_them) / sum(without)
    return [Bar("goodput lost when clients retry", lost, MOST_LOST)]


if __name__ == "__main__":
    main()
