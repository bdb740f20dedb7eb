"""Eight emulated H100-like replicas behind Forebay's router and behind Ray's own.

Conversations of several turns over shared system prompts of Zipf popularity, the same arrivals for
every system, at a few rates. A system sustains a rate when 97 % of the requests are good. The load
that is compared is 0.8 x the highest rate that any of Ray's routers sustains. All times are those
of the slowed engines; divide them, and multiply the rates, by `slowed` for the real ones.

Run as: python benchmarks/routers.py [--rates 2,3,4] [--systems forebay,round-robin,...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

import systems
from client import ROOT, lag_p99_ms
from emulated_stock import ROUTERS
from forebay.load.probe import Asked, look_at
from forebay.load.runner import LoadPlan, run_load
from forebay.spec.loading import load_service
from forebay.spec.workload import WorkloadSpec
from tables import Bar, print_bars, print_table, write

FILE = ROOT / "examples" / "emulated-fleet.yaml"
PORT = 8000
SLOWED = load_service(FILE).model.slowed
SLO_TTFT_S = load_service(FILE).slo.ttft_p99 * SLOWED
SUSTAINED = 0.97
MOST_SHARE, MOST_OF_STOCK = 1.3, 0.7

Replicas = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rates", default="2,3,4", help="sessions/s of the fleet, rising")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--systems", default=",".join(["forebay", *ROUTERS]))
    options = parser.parse_args()
    rates = [float(rate) for rate in options.rates.split(",")]
    rows: list[dict[str, Any]] = []
    for name in options.systems.split(","):
        with running(name) as (url, counts):
            for rate in rates:
                rows.append(measured(name, url, counts, rate, options.seconds))
                print_table(list(rows[0]), [tuple(rows[-1].values())])
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    bars = judged(rows)
    print_bars(bars)
    write("routers", {"slowed": SLOWED, "rows": rows, "bars": [bar.as_dict() for bar in bars]})


@contextmanager
def running(name: str) -> Iterator[tuple[str, Any]]:
    """A system; its address, and how to get each replica's counts."""
    if name == "forebay":
        with systems.running(name, systems.forebay(PORT, FILE), PORT, model_cores=1) as server:
            yield server.url, lambda: fleet(server.url)
        return
    script = str(Path(__file__).with_name("emulated_stock.py"))
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        command = [sys.executable, script, str(FILE), str(PORT), folder, name]
        with systems.running(name, command, PORT, model_cores=1) as server:
            yield server.url, lambda: written(Path(folder))


def fleet(url: str) -> Replicas:
    with urllib.request.urlopen(f"{url}/forebay/status", timeout=10) as answer:
        return list(json.load(answer)["replicas"])


def written(folder: Path) -> Replicas:
    return [
        {"replica": file.stem, **json.loads(file.read_text())} for file in folder.glob("*.json")
    ]


def workload(rate: float, seconds: float) -> WorkloadSpec:
    """Chats over 32 system prompts of about 800 tokens, some five turns each."""
    kind = {
        "prompt": {"lognormal": {"p50": 60, "p99": 400}},
        "output": {"lognormal": {"p50": 80, "p99": 300}},
        "prefixes": {"count": 32, "tokens": {"uniform": [400, 1200]}, "zipf": 1.0},
        "conversation": {"turns": {"uniform": [2, 8]}, "think": {"p50": "10s", "p99": "60s"}},
    }
    return WorkloadSpec.model_validate(
        {
            "name": "chats",
            "requests": [kind],
            "stages": [{"hold": f"{rate}/s", "for": f"{seconds}s"}],
            "slo": {"ttft": f"{SLO_TTFT_S}s", "tpot": f"{0.05 * SLOWED}s"},
            "seed": 3,
        }
    )


def measured(name: str, url: str, counts: Any, rate: float, seconds: float) -> dict[str, Any]:
    """One system at one rate."""
    before = counts()
    psutil.cpu_percent()
    run = run_load(
        LoadPlan(
            endpoint=look_at(Asked(url=url, api="chat")),
            workload=workload(rate, seconds),
            timeout_s=300.0,
        )
    )
    idle = 100.0 - psutil.cpu_percent()
    after = counts()
    tokens = grown(before, after, "output_tokens")
    prompt, cached = (sum(grown(before, after, key)) for key in ("prompt_tokens", "cached_tokens"))
    summary = run.summary
    return {
        "system": name,
        "sessions/s": rate,
        "requests": summary.offered,
        "good share": summary.good / max(summary.offered, 1),
        "shed": summary.shed,
        "failed": summary.failed,
        "TTFT p50 s": summary.ttft_p50,
        "TTFT p99 s": summary.ttft_p99,
        "hit %": 100 * cached / max(prompt, 1),
        "busiest / mean": max(tokens) / (sum(tokens) / len(tokens)),
        "late p99 %": 100 * max(r["late_p99"] or 0.0 for r in after),
        "idle %": idle,
        "lag p99 ms": lag_p99_ms(run),
    }


def grown(before: Replicas, after: Replicas, key: str) -> list[float]:
    """Growth of a count in each replica."""
    was = {one["replica"]: one[key] for one in before}
    return [one[key] - was.get(one["replica"], 0.0) for one in after]


def judged(rows: list[dict[str, Any]]) -> list[Bar]:
    """Forebay at 0.8 x what the best of Ray's routers sustains, against the best of them there."""
    stock = [row for row in rows if row["system"] != "forebay"]
    sustained = [row["sessions/s"] for row in stock if row["good share"] >= SUSTAINED]
    if not sustained:
        return [Bar("a rate that one of Ray's routers sustains", None, 1.0, at_least=True)]
    wanted = 0.8 * max(sustained)
    rate = min({row["sessions/s"] for row in rows}, key=lambda r: abs(r - wanted))
    here = [row for row in rows if row["sessions/s"] == rate]
    ours = next(row for row in here if row["system"] == "forebay")
    theirs = [row for row in here if row["system"] != "forebay"]
    ratio = ours["TTFT p99 s"] / min(row["TTFT p99 s"] for row in theirs)
    return [
        Bar(f"hit share at {rate:g}/s, % (best of Ray's)", ours["hit %"],
            max(row["hit %"] for row in theirs), at_least=True),
        Bar("TTFT p99, x of the best of Ray's", ratio, MOST_OF_STOCK),
        Bar("busiest replica, x of the mean", ours["busiest / mean"], MOST_SHARE),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
