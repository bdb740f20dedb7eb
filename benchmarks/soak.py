"""Ten minutes at 0.8 x capacity: every process's memory stays flat, and nothing fails: bar 6.

Run as: python benchmarks/soak.py --capacity RATE [--minutes 10]
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

import numpy as np

import systems
from client import SHORT, load, settle
from tables import Bar, exit_by_bars, print_bars, write

PORT = 8000
SHARE = 0.8
SAMPLE_S = 10.0
SETTLED_S = 300.0  # caches and allocators fill in the first minutes; the slope starts here
MOST_GROWTH = 30.0  # MiB/h of one process: what allocators and caches still do after five minutes
MIB = 2**20


def watch(server: systems.Server, stop: threading.Event) -> dict[str, list[tuple[float, int]]]:
    """Resident memory of every process, sampled until told to stop."""
    series: dict[str, list[tuple[float, int]]] = {}
    started = time.monotonic()
    while not stop.wait(SAMPLE_S):
        now = time.monotonic() - started
        for name, size in server.memory().items():
            series.setdefault(name, []).append((now, size))
    return series


def slope(points: list[tuple[float, int]]) -> float | None:
    """MiB per hour after the first five minutes; None for a process that lived too shortly."""
    late = [(t, size) for t, size in points if t >= SETTLED_S]
    if len(late) < 6:
        return None
    t, size = np.array(late, dtype=float).T
    return float(np.polyfit(t, size, 1)[0] * 3600 / MIB)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=float, required=True, help="requests/s, short workload")
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    with systems.running("soak", systems.forebay(PORT), PORT) as server:
        settle(server.url)
        stop = threading.Event()
        found: dict[str, list[tuple[float, int]]] = {}
        watcher = threading.Thread(target=lambda: found.update(watch(server, stop)))
        watcher.start()
        stages = [(SHARE * options.capacity, 60 * options.minutes)]
        try:
            result = load(server.url, SHORT, stages=stages, seed=1)
        finally:
            stop.set()
            watcher.join()
    summary = result.summary.as_dict()
    bars = report(summary, found)
    print_bars(bars)
    write("soak", {"summary": summary, "rss": found, "bars": [bar.as_dict() for bar in bars]})


def report(summary: dict[str, Any], found: dict[str, list[tuple[float, int]]]) -> list[Bar]:
    keys = ("offered", "admitted", "shed", "failed", "ttft_p50", "ttft_p99", "client_lag_p99")
    print({key: summary[key] for key in keys})
    print("\n| process | MiB at 5 min | at the end | MiB/h |\n|---|---|---|---|")
    for name, points in sorted(found.items()):
        growth = slope(points)
        if growth is None:
            continue
        settled = next(size for t, size in points if t >= SETTLED_S)
        print(f"| {name} | {settled / MIB:.1f} | {points[-1][1] / MIB:.1f} | {growth:+.1f} |")
    slopes = [one for one in map(slope, found.values()) if one is not None]
    return [
        Bar("failed", summary["failed"], 0),
        Bar("growth of any process", max(slopes, default=None), MOST_GROWTH, "MiB/h"),
    ]


if __name__ == "__main__":
    exit_by_bars(main)
