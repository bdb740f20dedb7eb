"""Eight emulated H100-like replicas behind Forebay's router and behind Ray's own.

The conversations of `chats.py`, the same for every system, at a share of a stated capacity, once
with one prefix cache for all and once with each tenant's prefixes kept apart (Forebay by its
tenants file; Ray's replicas salt by API key). What the two differ by is what isolation costs.
Figures are of what was sent after `--warm` seconds. All times are those of the slowed engines;
divide them, and multiply the rates, by `slowed` for the real ones.

Ray's `KVAwareRouter` is left out: it goes by KV events of vLLM's engines, and the emulated one
publishes none.

Run as: PYTHONPATH=tests/support python benchmarks/routers.py --capacity 60 [--isolation both]
[--systems forebay,...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from chats import workload

import systems
from client import lag_p99_ms, played
from emulated_stock import ROUTERS
from fleet_parts import FILE, SLOWED, TPOT_S, TTFT_S, late_percent, status
from forebay.load.client import ProbeTarget, look_at
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import MOST_LATE, RequestRecord, adjusted_percentile, percentile
from forebay.spec.tenants import key_hash, new_key
from tables import Bar, exit_by_bars, print_bars, print_table, write

PORT = 8000
TENANTS = {f"t{k}": new_key() for k in range(4)}
LOAD = 0.8
MOST_SHARE, MOST_OF_STOCK, LEAST_IDLE = 1.3, 0.7, 15.0

Replicas = list[dict[str, Any]]
Headers = Mapping[str, Mapping[str, str]]
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--capacity", default="60", help="requests/s of the slowed fleet; or SHARED,TENANT"
    )
    parser.add_argument("--warm", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--isolation", choices=["shared", "tenant", "both"], default="both")
    parser.add_argument("--systems", default=",".join(["forebay", *ROUTERS]))
    options = parser.parse_args()
    modes = ["shared", "tenant"] if options.isolation == "both" else [options.isolation]
    capacities = [float(rate) for rate in options.capacity.split(",")]
    rows: list[Row] = []
    bars: list[Bar] = []
    for isolation in modes:
        capacity = capacities[-1] if isolation == "tenant" else capacities[0]
        here = []
        for name in options.systems.split(","):
            here.append(measured(name, isolation, LOAD * capacity, options.warm, options.seconds))
            print_table(list(here[0]), [tuple(here[-1].values())])
        rows += here
        bars += judged(here, isolation)
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    if len(modes) == 2:
        print_table(*costs_of_isolation(rows))
    bars += sound(rows)
    print_bars(bars)
    write("routers", {"slowed": SLOWED, "rows": rows, "bars": [bar.as_dict() for bar in bars]})


@dataclass(frozen=True, slots=True)
class Fleet:
    """A running system: where it answers, its tenants' headers, and each replica's counts."""

    url: str
    headers: Headers
    counts: Callable[[], Replicas]

    @property
    def any_headers(self) -> Mapping[str, str]:
        """With which anybody may ask."""
        return next(iter(self.headers.values()), {})


@contextmanager
def running(name: str, isolation: str) -> Iterator[Fleet]:
    """A system with its replicas ready."""
    bearers = {tenant: {"authorization": f"Bearer {key}"} for tenant, key in TENANTS.items()}
    headers = bearers if isolation == "tenant" else {}
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as made:
        folder = Path(made)
        if name == "forebay":
            command = systems.forebay(PORT, service_file(folder, isolation))
        else:
            script = str(Path(__file__).with_name("emulated_stock.py"))
            command = [sys.executable, script, str(FILE), str(PORT), made, name, isolation]
        with systems.running(f"routers-{name}", command, PORT, model_cores=1) as server:
            one = next(iter(headers.values()), None)
            yield Fleet(
                server.url,
                headers,
                (lambda: told(server.url, one)) if name == "forebay" else lambda: written(folder),
            )


def service_file(folder: Path, isolation: str) -> Path:
    """The example's service; with tenants, whose caches are then kept apart."""
    if isolation == "shared":
        return FILE
    entries = [{"name": name, "key_hashes": [key_hash(key)]} for name, key in TENANTS.items()]
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": entries}))
    file = folder / "service.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(FILE.read_text()), "tenants": "tenants.yaml"}))
    return file


def told(url: str, headers: Mapping[str, str] | None) -> Replicas:
    """What Forebay's status says of each replica."""
    return [
        {**one, "requests": sum(each["offered"] for each in one["classes"].values())}
        for one in status(url, headers)["replicas"]
    ]


def written(folder: Path) -> Replicas:
    """What plain replicas wrote of themselves."""
    return [
        {"replica": file.stem, **json.loads(file.read_text())} for file in folder.glob("*.json")
    ]


def measured(name: str, isolation: str, rate: float, warm: float, seconds: float) -> Row:
    """One system under `rate` requests/s."""
    with running(name, isolation) as fleet:
        before: list[Replicas] = []
        snapshot = threading.Timer(warm, lambda: before.append(fleet.counts()))
        snapshot.start()
        psutil.cpu_percent()
        run = played(
            LoadPlan(
                endpoint=look_at(ProbeTarget(url=fleet.url, api="chat", headers=fleet.any_headers)),
                workload=workload(
                    rate, warm + seconds, ttft_s=TTFT_S, tpot_s=TPOT_S,
                    tenants=len(TENANTS) if isolation == "tenant" else 0,
                ),
                timeout_s=300.0,
                tenant_headers=fleet.headers,
            )
        )  # fmt: skip
        snapshot.join()
        idle = 100.0 - psutil.cpu_percent()
        after = fleet.counts()
    requests = grown(before[0] if before else [], after, "requests")
    late = late_percent(after)
    return row(name, isolation, run, warm, requests) | {
        "late p99 %": late,
        "idle %": idle,
        "lag p99 ms": lag_p99_ms(run),
    }


def row(name: str, isolation: str, run: LoadRun, warm: float, requests: Sequence[float]) -> Row:
    """What clients saw, of the requests sent after `warm` seconds."""
    records = [record for record in run.records if record.intended_s >= warm]
    begun = [record for record in records if record.ttft is not None]
    ttfts = [record.ttft or 0.0 for record in begun]
    return {
        "system": name,
        "isolation": isolation,
        "requests": len(records),
        "good %": 100 * sum(r.is_good(TTFT_S, TPOT_S) for r in records) / max(len(records), 1),
        "shed": sum(record.outcome == "shed" for record in records),
        "failed": sum(record.failure for record in records),
        "hit %": hit_percent(begun),
        "TTFT p50 s": percentile(ttfts, 50),
        # Who was refused, or had no token, waits for ever: to take fewer is no way to be quicker.
        "TTFT p99 s": adjusted_percentile(ttfts, len(records) - len(ttfts), 99),
        "busiest / mean": max(requests) * len(requests) / max(sum(requests), 1.0),
    }


def hit_percent(records: Sequence[RequestRecord]) -> float:
    """Prompt tokens that were found in the prefix cache, as the answers tell."""
    told = [record for record in records if record.cached_tokens is not None]
    prompt = sum(record.prompt_tokens for record in told)
    return 100 * sum(record.cached_tokens or 0 for record in told) / max(prompt, 1)


def grown(before: Replicas, after: Replicas, key: str) -> list[float]:
    """Growth of a count in each replica."""
    was = {one["replica"]: one[key] for one in before}
    return [one[key] - was.get(one["replica"], 0.0) for one in after]


def judged(rows: Sequence[Row], isolation: str) -> list[Bar]:
    """Forebay against the best of Ray's routers."""
    ours = [row for row in rows if row["system"] == "forebay"]
    theirs = [row for row in rows if row["system"] != "forebay" and row["TTFT p99 s"] is not None]
    if not ours or not theirs:
        return []
    ratio = (ours[0]["TTFT p99 s"] or float("inf")) / min(row["TTFT p99 s"] for row in theirs)
    return [
        Bar(f"{isolation}: hits, % (best of Ray's)", ours[0]["hit %"],
            max(row["hit %"] for row in theirs), at_least=True),
        Bar(f"{isolation}: TTFT p99, x the best of Ray's", ratio, MOST_OF_STOCK),
        Bar(f"{isolation}: busiest replica, x the mean", ours[0]["busiest / mean"], MOST_SHARE),
    ]  # fmt: skip


def sound(rows: Sequence[Row]) -> list[Bar]:
    """Whether the emulation was what it says; otherwise whatever else was measured is void."""
    return [
        Bar("emulation: lateness p99, % of a step", max(row["late p99 %"] for row in rows),
            100 * MOST_LATE),
        Bar("machine idle, %", min(row["idle %"] for row in rows), LEAST_IDLE, at_least=True),
    ]  # fmt: skip


def costs_of_isolation(rows: Sequence[Row]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """How much worse each system is where tenants' caches are kept apart."""
    found = []
    for shared in (row for row in rows if row["isolation"] == "shared"):
        apart = next(
            row
            for row in rows
            if row["isolation"] == "tenant" and row["system"] == shared["system"]
        )
        found.append(
            (
                shared["system"],
                shared["hit %"] - apart["hit %"],
                (apart["TTFT p99 s"] or 0.0) / (shared["TTFT p99 s"] or 1.0),
            )
        )
    return ["isolation costs", "points of hits", "TTFT p99, x"], found


if __name__ == "__main__":
    exit_by_bars(main)
