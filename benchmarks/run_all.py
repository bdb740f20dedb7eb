"""Every benchmark, one after the other; needs a quiet machine and about three hours.

Run as: make bench
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def run(name: str, *arguments: str) -> None:
    print(f"\n# {name} {' '.join(arguments)}\n", flush=True)
    subprocess.run([sys.executable, str(HERE / name), *arguments], check=True, cwd=HERE)


def main() -> None:
    run("startup.py")
    for name in ("load_speed", "load_truth", "load_arrivals", "load_report", "load_find_rate"):
        run(f"{name}.py")
    run("load_replay.py", "--vllm")
    run("overhead.py", "--stock")
    run("own_cpu.py")
    run("connections.py")
    run("overload.py")
    found = json.loads((HERE.parent / "runs" / "overload.json").read_text())
    run("soak.py", "--capacity", str(found["capacity"]["short"]))


if __name__ == "__main__":
    main()
