"""What Forebay costs beside vLLM's own server: bar 2.

Alternates the two, each started fresh, with identical engine arguments: 64 clients in a closed
loop (100 tokens in, 32 out) and one client. Each pair is taken in the opposite order of the one
before, so that a drift of the machine is nobody's advantage, and judged by the ratio within it.
Exits 1 when a bar is missed; one pair alone leaves them undecided.

Where 64 prompts at once take nearly as long as the demo file promises for the first token, Forebay
refuses some of them, and their clients ask again: that is admission, and its price is in the ratio.
`--ttft` promises so many seconds instead, for the price of the path alone.

Run as: python benchmarks/overhead.py [--pairs 3] [--stock] [--ttft 3]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import yaml

import systems
from client import Workload, completion_rate, load, settle
from tables import Bar, exit_by_bars, print_bars, write
from tenants import reasons

RAW, FOREBAY = "raw vLLM", "Forebay"
LEAST_OF_RAW = 0.88
BUSY = Workload("64 clients", 100, 32)
CLIENTS = 64
WARM_S, BUSY_S, SINGLE_S = 6.0, 20.0, 8.0
PORT = 8000


def measure(server: systems.Server, seed: int) -> dict[str, Any]:
    load(server.url, BUSY, clients=CLIENTS, seconds=WARM_S, seed=seed)
    settle(server.url)
    before = server.cpu_seconds()
    busy = load(server.url, BUSY, clients=CLIENTS, seconds=BUSY_S, seed=seed + 1)
    after = server.cpu_seconds()
    settle(server.url)
    single = load(server.url, BUSY, clients=1, seconds=SINGLE_S, seed=seed + 2)
    done = busy.summary.admitted
    return {
        "system": server.name,
        "requests_per_s": round(completion_rate(busy, CLIENTS), 2),
        "ttft_ms_1_client": (single.summary.ttft_p50 or 0) * 1e3,
        "ttft_p99_ms_busy": (busy.summary.ttft_p99 or 0) * 1e3,
        "failed": busy.summary.failed,
        "shed": busy.summary.shed,
        "mostly_for": reasons(busy.records),
        "cpu_ms": {
            name: round((seconds - before.get(name, 0.0)) / max(done, 1) * 1e3, 2)
            for name, seconds in sorted(after.items())
            if seconds - before.get(name, 0.0) > 0.1
        },
        "client_cpu_ms": round(1e3 * busy.client.cpu_s / max(1, len(busy.records)), 4),
        "realtime": busy.client.realtime,
        **server.notes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--stock", action="store_true", help="measure stock Ray Serve LLM too")
    parser.add_argument("--ttft", type=float, help="seconds to promise; default: the demo file's")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        file = promising(options.ttft, Path(folder)) if options.ttft else systems.DEMO
        commands = {RAW: systems.raw_vllm(PORT), FOREBAY: systems.forebay(PORT, file)}
        if options.stock:
            commands["stock Ray"] = systems.stock_ray(PORT)
        for pair in range(options.pairs):
            order = list(commands.items())
            for name, command in order[::-1] if pair % 2 else order:
                with systems.running(name.replace(" ", "-").lower(), command, PORT) as server:
                    server.name = name
                    rows.append(measure(server, seed=100 * pair))
                print(json.dumps(rows[-1]), flush=True)
    report(rows)


def promising(ttft_s: float, folder: Path) -> Path:
    """The demo file with another promise for the first token."""
    spec = yaml.safe_load(systems.DEMO.read_text())
    spec["slo"]["ttft_p99"] = f"{ttft_s:g}s"
    file = folder / "demo.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


def report(rows: list[dict[str, Any]]) -> None:
    """Medians of each system, its pairs' ratios to raw vLLM, and the bars."""
    print("\n| system | requests/s, 64 clients | of raw, pair by pair | median |", end="")
    print(" TTFT p50, 1 client | over raw, median |")
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["system"] for row in rows):
        rates, ttfts = series(rows, name)
        ratios, over = beside_raw(rows, name)
        print(
            f"| {name} | {statistics.median(rates):.1f} | "
            f"{', '.join(f'{ratio:.2f}' for ratio in ratios)} | {statistics.median(ratios):.2f} | "
            f"{statistics.median(ttfts):.1f} ms | {statistics.median(over):+.1f} ms |"
        )
    ratios, over = beside_raw(rows, FOREBAY)
    print(f"\nTTFT p50 of one client, over raw vLLM's: {sum(over) / len(over):.1f} ms")
    bars = [
        Bar.of_mean("requests/s of 64 clients, x raw vLLM's", ratios, LEAST_OF_RAW, at_least=True)
    ]
    print_bars(bars)
    write("overhead", {"rows": rows, "bars": [bar.as_dict() for bar in bars]})


def beside_raw(rows: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Requests/s over raw vLLM's, and TTFT beyond its in ms, pair by pair."""
    rates, ttfts = series(rows, name)
    raw_rates, raw_ttfts = series(rows, RAW)
    return (
        [rate / raw for rate, raw in zip(rates, raw_rates, strict=True)],
        [ttft - raw for ttft, raw in zip(ttfts, raw_ttfts, strict=True)],
    )


def series(rows: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """(requests/s, TTFT in ms) of a system, run by run."""
    mine = [row for row in rows if row["system"] == name]
    return [row["requests_per_s"] for row in mine], [row["ttft_ms_1_client"] for row in mine]


if __name__ == "__main__":
    exit_by_bars(main)
