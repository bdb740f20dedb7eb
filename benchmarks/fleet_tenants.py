"""Whether tenants keep what is theirs on eight emulated replicas, wherever their traffic goes.

The example fleet with a tenants file beside it. For each case:

- weights: two tenants of weights 3 and 1, each asking for 1.5 x the capacity; the light one's
  prompts share one prefix, so that the router sends it where that is cached. Tokens are counted
  once the fleet is full. Runs of 60 and 90 s had ratios from 2.6 to 3.5: too short.
- quota: a tenant that asks for 5 x its tokens a minute, on one shared prefix.
- neighbour: a tenant at a fifth of the capacity, alone and when one comes that asks for many times
  it. Counted from then on.

The capacity is computed from the profile (`fleet_parts.capacity`). Good is a request that finished
with its first token within the slowed SLO. The minute of a quota is a real one.

Run as: python benchmarks/fleet_tenants.py [--parts weights,quota,neighbour] [--seconds 240]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

import systems
from client import Workload, lag_p99_ms, played, traced
from fleet_parts import (
    FILE,
    REPLICAS,
    TTFT_S,
    capacity,
    in_flight,
    in_time,
    late_percent,
    status,
    ttft_percentile,
    until_quiet,
)
from forebay.load.client import ProbeTarget, look_at
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import MOST_LATE, RequestRecord
from forebay.spec.tenants import key_hash, new_key
from forebay.spec.workload import WorkloadSpec
from tables import Bar, exit_by_bars, print_bars, print_table, write
from tenants import arrivals, reasons, tokens_of

PORT = 8000
PROMPT, ANSWER = 1000, 50
SHARED = 800  # tokens of a prompt that is mostly a shared prefix
METERED = (400, 100, 20)  # tokens of shared prefix, own prompt and answer
QUOTA = 60_000  # tokens a minute
KEYS = {name: new_key() for name in ("heavy", "light", "metered", "modest", "greedy")}
HEADERS = {name: {"Authorization": f"Bearer {key}"} for name, key in KEYS.items()}
WEIGHT_OFF, MOST_OVER, LEAST_USED, LEAST_KEPT = 0.10, 0.10, 0.90, 0.97
MINUTE_S = 60.0
FILLED_S = 20.0  # an empty fleet takes whatever comes first, whoever's it is

Part = tuple[list[dict[str, Any]], list[Bar]]
Replicas = list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="weights,quota,neighbour")
    parser.add_argument("--seconds", type=float, default=240.0, help="of each run")
    parser.add_argument("--greedy", type=float, default=10.0, help="x the capacity")
    options = parser.parse_args()
    parts: dict[str, Callable[[Fleet], Part]] = {
        "weights": weights,
        "quota": quota,
        "neighbour": lambda fleet: neighbour(fleet, options.greedy),
    }
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    best = capacity(PROMPT, ANSWER)
    print(f"capacity by the profile: {best:.2f} requests/s of {PROMPT} + {ANSWER} tokens")
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        command = systems.forebay(PORT, service_file(Path(folder)))
        with systems.running("fleet-tenants", command, PORT, model_cores=1) as server:
            fleet = Fleet(server.url, best, options.seconds)
            for name in options.parts.split(","):
                found, asked = parts[name](fleet)
                rows += found
                bars += asked
                print_table(list(found[0]), [tuple(row.values()) for row in found])
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    late = max(row["late p99 %"] for row in rows)
    bars.append(Bar("emulation: lateness p99, % of a step", late, 100 * MOST_LATE))
    print_bars(bars)
    write("fleet_tenants", {"rows": rows, "bars": [bar.as_dict() for bar in bars]})


def service_file(folder: Path) -> Path:
    """The example's service with tenants."""
    more: dict[str, dict[str, Any]] = {
        "heavy": {"weight": 3},
        "metered": {"tokens_per_minute": QUOTA},
    }
    tenants = [
        {"name": name, "key_hashes": [key_hash(key)], **more.get(name, {})}
        for name, key in KEYS.items()
    ]
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": tenants}))
    spec = yaml.safe_load(FILE.read_text())
    file = folder / "service.yaml"
    file.write_text(yaml.safe_dump({**spec, "tenants": "tenants.yaml"}))
    return file


class Fleet:
    """A running fleet, asked by tenants."""

    def __init__(self, url: str, best: float, seconds: float) -> None:
        """`best` is its capacity in requests/s; each run offers load for `seconds`."""
        self.url = url
        self.best = best
        self.seconds = seconds
        self.headers = HEADERS["modest"]

    def replicas(self) -> Replicas:
        return list(status(self.url, self.headers)["replicas"])

    def play(self, kinds: list[dict[str, Any]]) -> Played:
        """Poisson arrivals of some kinds; `share` is each one's rate in requests/s."""
        return self.run(workload(kinds, self.seconds))

    def play_flows(self, rates: dict[str, float], later: Sequence[str] = ()) -> Played:
        """Poisson arrivals of tenants at these rates; some come only once the fleet has filled."""
        flows = [(name, "interactive", rate) for name, rate in rates.items()]
        size = Workload("chat", PROMPT, ANSWER)
        starts = dict.fromkeys(later, FILLED_S)
        with traced("tenants", arrivals(flows, size, self.seconds, starts)) as spec:
            return self.run(spec)

    def _busy(self) -> int:
        """Sequences in flight, and replicas that are not there yet."""
        found = status(self.url, self.headers)
        return in_flight(found) + max(REPLICAS - len(found["replicas"]), 0)

    def run(self, asked: WorkloadSpec) -> Played:
        """A workload, once nothing else is in flight."""
        until_quiet(self._busy)
        endpoint = look_at(ProbeTarget(url=self.url, api="chat", headers=self.headers))
        before = self.replicas()
        psutil.cpu_percent()
        run = played(
            LoadPlan(
                endpoint=endpoint,
                workload=asked,
                timeout_s=300.0,
                tenant_headers=HEADERS,
            )
        )
        return Played(run, before, self.replicas(), 100.0 - psutil.cpu_percent())


class Played:
    """A run, and each replica's counts before and after it."""

    def __init__(self, run: LoadRun, before: Replicas, after: Replicas, idle: float) -> None:
        self.run = run
        self.idle = idle
        self.late = late_percent(after)
        was = {one["replica"]: one for one in before}
        self.cached = [one["cached_tokens"] - was[one["replica"]]["cached_tokens"] for one in after]

    def of(self, tenant: str, since: float = 0.0) -> list[RequestRecord]:
        """A tenant's requests that were meant to be sent from `since` (s) on."""
        return [r for r in self.run.records if r.tenant == tenant and r.intended_s >= since]

    @property
    def most_cached(self) -> str:
        """Where shared prefixes were found: the busiest replica's part of all, and how many."""
        total = sum(self.cached)
        if not total:
            return "-"
        places = sum(tokens > 0.02 * total for tokens in self.cached)
        return f"{100 * max(self.cached) / total:.0f} %, {places} replicas"


def kind(
    tenant: str, rate: float, prompt: int = PROMPT, answer: int = ANSWER, shared: int = 0
) -> dict[str, Any]:
    """Requests of a tenant, `rate` a second; `shared` tokens of the prompt are one prefix."""
    prefix = {"prefixes": {"count": 1, "tokens": shared}} if shared else {}
    lengths = {"prompt": prompt - shared, "output": answer, **prefix}
    return {"name": tenant, "share": rate, "tenants": [{"name": tenant}], **lengths}


def workload(kinds: list[dict[str, Any]], seconds: float) -> WorkloadSpec:
    total = sum(one["share"] for one in kinds)
    return WorkloadSpec.model_validate(
        {
            "name": "tenants",
            "requests": kinds,
            "stages": [{"hold": f"{total}/s", "for": f"{seconds}s"}],
            "slo": {"ttft": f"{TTFT_S}s"},
            "seed": 7,
        }
    )


def weights(fleet: Fleet) -> Part:
    """Two tenants that saturate, of weights 3 and 1, the light one on one prefix."""
    rate = 1.5 * fleet.best
    played = fleet.play([kind("heavy", rate), kind("light", rate, shared=SHARED)])
    rows = [row("weights", played, tenant) for tenant in ("heavy", "light")]
    ratio = rows[0]["tokens/s"] / max(rows[1]["tokens/s"], 1e-9)
    print(f"weights: {ratio:.3f} tokens of the heavy one for one of the light one")
    return rows, [Bar("weights: ratio of tokens, off from 3 by", abs(ratio / 3 - 1), WEIGHT_OFF)]


def quota(fleet: Fleet) -> Part:
    """A tenant that asks for five times its quota, on one prefix."""
    shared, own, answer = METERED
    rate = 5 * QUOTA / MINUTE_S / (shared + own + answer)
    played = fleet.play([kind("metered", rate, shared + own, answer, shared)])
    served = [r for r in played.of("metered") if r.tokens_out]
    most = busiest_minute(served)
    first = min((r.sent_s for r in served), default=0.0)
    used = sum(tokens_of(r) for r in served if r.sent_s < first + MINUTE_S)
    return [row("quota", played, "metered")], [
        Bar("quota: any 60 s, over the quota by", most / QUOTA - 1, MOST_OVER),
        Bar("quota: used in the minute from the first", used / QUOTA, LEAST_USED, at_least=True),
    ]


def busiest_minute(served: Sequence[RequestRecord]) -> int:
    """Most tokens of requests that were sent within 60 seconds."""
    ordered = sorted(served, key=lambda r: r.sent_s)
    most = total = first = 0
    for record in ordered:
        total += tokens_of(record)
        while ordered[first].sent_s <= record.sent_s - MINUTE_S:
            total -= tokens_of(ordered[first])
            first += 1
        most = max(most, total)
    return most


def neighbour(fleet: Fleet, greedy: float) -> Part:
    """A modest tenant, alone and from the moment on at which a greedy one comes."""
    rates = {"modest": 0.2 * fleet.best}
    alone = fleet.play_flows(rates)
    beside = fleet.play_flows({**rates, "greedy": greedy * fleet.best}, later=("greedy",))
    rows = [
        row("neighbour: alone", alone, "modest", FILLED_S),
        row("neighbour: beside", beside, "modest", FILLED_S),
        row(f"neighbour: {greedy:g} x", beside, "greedy", FILLED_S),
    ]
    kept = rows[1]["good share"] / max(rows[0]["good share"], 1e-9)
    return rows, [
        Bar("neighbour: share of its goodput kept", kept, LEAST_KEPT, at_least=True),
        Bar("neighbour: its TTFT p99", rows[1]["TTFT p99 s"], TTFT_S, "s"),
    ]


def row(case: str, played: Played, tenant: str, since: float = 0.0) -> dict[str, Any]:
    """One tenant's part of a run: what was meant to be sent from `since` (s) on."""
    mine, run = played.of(tenant, since), played.run
    return {
        "case": case,
        "of": tenant,
        "offered/s": len(mine) / (run.duration_s - since),
        "served": sum(r.outcome == "ok" for r in mine),
        "shed": sum(r.outcome == "shed" for r in mine),
        "mostly for": reasons(mine),
        "failed": sum(r.failure for r in mine),
        "good share": in_time(mine) / max(len(mine), 1),
        "TTFT p99 s": ttft_percentile(mine, 99),
        "tokens/s": tokens_while(mine, FILLED_S, run.duration_s),
        "busiest cache": played.most_cached,
        "late p99 %": played.late,
        "idle %": played.idle,
        "lag p99 ms": lag_p99_ms(run),
        "valid": run.validity.valid,
    }


def tokens_while(records: Sequence[RequestRecord], start_s: float, end_s: float) -> float:
    """Tokens/s between two moments of the run, prompts with their first token."""
    total = 0
    for record in records:
        times = [at for at in record.token_times or () if start_s <= at < end_s]
        began = record.first_token_s is not None and start_s <= record.first_token_s < end_s
        total += len(times) + (record.prompt_tokens if began else 0)
    return total / (end_s - start_s)


if __name__ == "__main__":
    exit_by_bars(main)
