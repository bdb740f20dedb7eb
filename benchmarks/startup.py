"""`forebay --help`: under half a second, and neither ray nor torch is loaded: bar 4.

Run as: python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tables import Bar, exit_by_bars, print_bars, write

RUNS = 10
MOST_S = 0.5
FOREBAY = str(Path(sys.executable).parent / "forebay")
HEAVY = (
    "import sys; from forebay.cli.main import app; "
    "print([m for m in ('ray', 'torch', 'vllm') if m in sys.modules])"
)


def main() -> None:
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run([FOREBAY, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    print(f"forebay --help: median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s")
    loaded = subprocess.run([sys.executable, "-c", HEAVY], check=True, capture_output=True)
    heavy = loaded.stdout.decode().strip()
    print(f"heavy modules loaded: {heavy}")
    bars = [
        Bar("forebay --help, median", statistics.median(seconds), MOST_S, "s"),
        Bar("heavy modules loaded", heavy.count("'") // 2, 0),
    ]
    print_bars(bars)
    write("startup", {"seconds": seconds, "bars": [bar.as_dict() for bar in bars]})


if __name__ == "__main__":
    exit_by_bars(main)
