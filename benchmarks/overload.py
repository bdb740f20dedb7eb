"""Beyond capacity, open loop, on one unchanged examples/demo.yaml: bar 3.

For each workload: the capacity (the highest of at least six offered rates at which 97 % of the
requests or more are good: finished, first token within 1 s of the intended send time), then 2 x
and 3 x that rate for 40 s with two seeds, then half of it, to see the recovery. The rivals get the
same rates: stock Ray direct streaming, and vLLM alone with each of its own two queue bounds.

Run as: python benchmarks/overload.py [--systems forebay,...] [--workloads short,...] [--quick]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

import systems
from client import ROOT, WORKLOADS, Workload, is_valid, lag_p99_ms, load, settle
from forebay.load.run import LoadRun
from forebay.measure import RequestRecord, percentile

PORT = 8000
SLO_S = 1.0
GOOD_SHARE = 0.97
RATE_S, BURST_S, AFTER_S = 20.0, 40.0, 15.0
FEWEST_REQUESTS, LONGEST_RATE_S = 40, 60.0  # one of ten that is refused would say nothing
CLIENTS, PROBE_S = 16, 10.0  # of the closed loop that tells where the search starts
START, CLIMB, CLOSE = 0.6, 1.2, 1.06  # shares of its rate, of the rate before, of the best
FEWEST_RATES, MOST_RATES = 6, 12
OUT = ROOT / "runs" / "overload.json"


def commands() -> dict[str, list[str]]:
    """The systems compared, by name."""
    return {
        "forebay": systems.forebay(PORT),
        "stock ray": systems.stock_ray(PORT),
        "vllm reqs 80": systems.raw_vllm(PORT, "--max-num-queued-reqs", "80"),
        "vllm tokens 18000": systems.raw_vllm(PORT, "--max-num-queued-tokens", "18000"),
    }


def good_share(records: list[RequestRecord]) -> float:
    """Share of the requests that were good; 0 of none."""
    return sum(record.is_good(SLO_S) for record in records) / max(len(records), 1)


def between(run: LoadRun, start_s: float, end_s: float) -> list[RequestRecord]:
    """Requests meant to be sent in [start, end)."""
    return [record for record in run.records if start_s <= record.intended_s < end_s]


def ttfts(records: Iterable[RequestRecord]) -> list[float]:
    """TTFT of what was answered, in seconds."""
    return [r.ttft for r in records if r.outcome == "ok" and r.ttft is not None]


def capacity(url: str, workload: Workload, seed: int) -> tuple[float, list[dict[str, Any]]]:
    """The highest rate with at least 97 % good, and every rate tried, at least six.

    Rates climb from well below what a closed loop completes until one fails, then close in.
    """
    rate = START * closed_loop_rate(url, workload, seed)
    tried: list[dict[str, Any]] = []
    while len(tried) < MOST_RATES:
        tried.append(offer(url, workload, rate, seed + len(tried)))
        print(f"    {workload.name} {tried[-1]}", flush=True)
        best = max((t["rate"] for t in tried if passes(t)), default=0.0)
        worst = min((t["rate"] for t in tried if t["rate"] > best and not passes(t)), default=None)
        if best and worst and worst / best < CLOSE and len(tried) >= FEWEST_RATES:
            break
        if worst is None:
            rate = best * CLIMB
        elif not best:
            rate = worst / CLIMB
        else:
            rate = (best * worst) ** 0.5
    return best, tried


def closed_loop_rate(url: str, workload: Workload, seed: int) -> float:
    """Requests/s that a few clients complete, each waiting for its answer."""
    settle(url)
    result = load(url, workload, clients=CLIENTS, seconds=PROBE_S, seed=seed)
    return result.summary.admitted / PROBE_S


def offer(url: str, workload: Workload, rate: float, seed: int) -> dict[str, Any]:
    """Offer `rate` for 20 s, or longer if these are few requests; which share was good."""
    settle(url)
    seconds = min(max(RATE_S, FEWEST_REQUESTS / rate), LONGEST_RATE_S)
    result = load(url, workload, stages=[(rate, seconds)], seed=seed)
    return {
        "rate": round(rate, 2),
        "good_share": round(good_share(result.records), 4),
        "ttft_p99": rounded(result.summary.ttft_p99),
        "lag_p99_ms": round(lag_p99_ms(result), 2),
        "valid": is_valid(result),
    }


def passes(tried: dict[str, Any]) -> bool:
    return bool(tried["valid"] and tried["good_share"] >= GOOD_SHARE)


def burst(url: str, workload: Workload, rate: float, after: float, seed: int) -> dict[str, Any]:
    """Offer `rate` for 40 s, then `after`; what came of it.

    A closed loop just before shows how fast the machine was, since that drifts over the hour.
    """
    before = closed_loop_rate(url, workload, seed)
    settle(url)
    result = load(
        url, workload, stages=[(rate, BURST_S), (after, AFTER_S)], seed=seed, timeout_s=90
    )
    during = between(result, 0, BURST_S)
    refused = [record for record in during if record.outcome == "shed"]
    recovered = between(result, BURST_S + 5, BURST_S + AFTER_S)
    return {
        "workload": workload.name,
        "offered_per_s": round(rate, 1),
        "seed": seed,
        "closed_loop_per_s": round(before, 1),
        "good_per_s": round(good_share(during) * len(during) / BURST_S, 2),
        "ttft_p50": rounded(percentile(ttfts(during), 50)),
        "ttft_p99": rounded(percentile(ttfts(during), 99)),
        "refused": len(refused),
        "refusal_p99_ms": rounded(percentile([1e3 * record.e2e for record in refused], 99)),
        "without_retry_after": sum(record.retry_after_s is None for record in refused),
        "failed": sum(record.outcome not in ("ok", "shed") for record in during),
        "errors_in_200": sum(record.outcome == "stream_error" for record in during),
        "recovery_ttft_p99": rounded(percentile(ttfts(recovered), 99)),
        "recovery_good_share": round(good_share(recovered), 3),
        "lag_p99_ms": round(lag_p99_ms(result), 2),
        "valid": is_valid(result),
        "realtime": result.client.realtime,
    }


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def valid_burst(
    url: str, workload: Workload, rate: float, after: float, seed: int
) -> dict[str, Any]:
    """A burst whose client kept up; one that did not is run again, at most twice."""
    for attempt in range(3):
        row = burst(url, workload, rate, after, seed + 1000 * attempt)
        if row["valid"]:
            break
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--systems", default=",".join(commands()))
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--quick", action="store_true", help="rivals at 3 x only, one seed")
    parser.add_argument("--capacity", default="", help='JSON, e.g. {"short": 80}: no search')
    parser.add_argument(
        "--search", action="store_true", help="find the capacities with Forebay, no more"
    )
    options = parser.parse_args()
    known: dict[str, float] = json.loads(options.capacity) if options.capacity else {}
    rows: list[dict[str, Any]] = []
    searches: dict[str, Any] = {}
    names = ["forebay"] if options.search else options.systems.split(",")
    for name in names:
        with systems.running(name.replace(" ", "-"), commands()[name], PORT) as server:
            print(f"{name}: ready after {server.notes['ready_s']} s", flush=True)
            for workload in (WORKLOADS[w] for w in options.workloads.split(",")):
                if workload.name not in known:
                    best, tried = capacity(server.url, workload, seed=1)
                    known[workload.name], searches[workload.name] = best, tried
                if options.search:
                    continue
                quick = options.quick and name != "forebay"
                rows += bursts(server, workload, known[workload.name], quick=quick)
    if options.search:
        print(json.dumps(known))
        return
    report(rows, known)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"capacity": known, "searches": searches, "rows": rows}, indent=1))


def bursts(
    server: systems.Server, workload: Workload, best: float, *, quick: bool
) -> list[dict[str, Any]]:
    rows = []
    factors, seeds = ((3.0,), (11,)) if quick else ((2.0, 3.0), (11, 12))
    for factor in factors:
        for seed in seeds:
            row = valid_burst(server.url, workload, factor * best, 0.5 * best, seed)
            rows.append({"system": server.name, "factor": factor, "capacity": best, **row})
            print(f"  {json.dumps(rows[-1])}", flush=True)
    return rows


def report(rows: list[dict[str, Any]], known: dict[str, float]) -> None:
    print(f"\ncapacity, requests/s: {known}\n")
    print(
        "| system | workload | offered | good/s | of capacity | TTFT p99 | refusal p99 | failed | "
        "errors in a 200 | no Retry-After | TTFT p99 after | lag p99 | 16 clients, before |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['system']} | {row['workload']} | {row['factor']:.0f} x | "
            f"{row['good_per_s']:.1f} | {row['good_per_s'] / max(row['capacity'], 1e-9):.2f} | "
            f"{row['ttft_p99']} s | {row['refusal_p99_ms']} ms | {row['failed']} | "
            f"{row['errors_in_200']} | {row['without_retry_after']} | "
            f"{row['recovery_ttft_p99']} s | {row['lag_p99_ms']} ms | "
            f"{row['closed_loop_per_s']}/s |"
        )


if __name__ == "__main__":
    main()
