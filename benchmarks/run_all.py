"""The benchmarks, one after the other; needs a quiet machine and most of a day.

One that fails does not keep the others from running. Which did, and which missed what, is said at
the end; missed bars and failures make the exit code 1. What takes rates relative to a capacity gets
those that `overload.py` finds on this machine.

Run as: make bench, or for some groups: python benchmarks/run_all.py load,gate,fleet,scaling
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tables import MISSED

HERE = Path(__file__).resolve().parent
SUPPORT = HERE.parent / "tests" / "support"  # where `nodes.py` and `routers.py` find theirs
RUNS = HERE.parent / "runs"
OVERLOAD = RUNS / "overload.json"

failed: list[str] = []


def run(name: str, *arguments: str) -> None:
    """One benchmark, with its output as it comes."""
    print(f"\n# {name} {' '.join(arguments)}\n", flush=True)
    began = time.time()
    process = subprocess.Popen(
        [sys.executable, str(HERE / name), *arguments],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )
    try:
        code = process.wait()
    except BaseException:  # Ctrl-C, or `_end`: it stops its servers, which hear neither
        process.terminate()
        process.wait()
        raise
    missed = missed_since(began)
    failed.extend(f"{name}: {MISSED}: {bar}" for bar in missed)
    if code and not (code == 1 and missed):
        failed.append(f"{name}: exit code {code}")


def _end(number: int, _frame: object) -> None:
    sys.exit(128 + number)


def missed_since(began: float) -> list[str]:
    """The missed bars in the files that were written since then (of `time.time`)."""
    files = [file for file in sorted(RUNS.glob("*.json")) if file.stat().st_mtime >= began]
    return [
        f"{bar['bar']} {bar['measured']}, asked {bar['asked']}"
        for content in map(json.loads, (file.read_text() for file in files))
        if isinstance(content, dict)
        for bar in content.get("bars", [])
        if bar["verdict"] == MISSED
    ]


def load() -> None:
    """The load generator."""
    for name in ("load_speed", "load_truth", "load_arrivals", "load_report", "load_find_rate"):
        run(f"{name}.py")
    run("load_replay.py", "--vllm")


def gate() -> None:
    """One replica with real vLLM: what the front door costs, and what it keeps."""
    run("startup.py")
    run("prove.py")
    run("own_cpu.py")
    run("connections.py")
    OVERLOAD.unlink(missing_ok=True)
    run("overload.py")
    if not OVERLOAD.exists():
        failed.append("gate: overload.py told no capacity; what needs one was not run")
        return
    found = json.loads(OVERLOAD.read_text())["capacity"]
    for name in ("promises", "soak"):
        run(f"{name}.py", "--capacity", str(found["short"]))
    run("tenants.py", "--capacity", json.dumps(found))


def fleet() -> None:
    """Eight emulated replicas."""
    for name in ("emulation", "fleet_overload", "fleet_tenants", "routers"):
        run(f"{name}.py")


def scaling() -> None:
    """Fleets that grow and shrink, on real Ray."""
    parts = ("shed-burst", "tokens", "floor", "slow-nodes", "drain", "restart", "zero")
    for part in parts:
        run("scaling.py", part)
    run("nodes.py")


GROUPS: dict[str, Callable[[], None]] = {
    "load": load,
    "gate": gate,
    "fleet": fleet,
    "scaling": scaling,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="?", default=",".join(GROUPS), help="of them, by comma")
    names = parser.parse_args(arguments).groups.split(",")
    if unknown := [name for name in names if name not in GROUPS]:
        parser.error(f"no group {unknown[0]!r}; there are {', '.join(GROUPS)}")
    signal.signal(signal.SIGTERM, _end)
    for name in names:
        GROUPS[name]()
    print("\n" + "\n".join(failed or ["every bar met"]), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
