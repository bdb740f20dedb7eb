"""Whether tenants and classes keep what is theirs while others ask for far too much.

One service, the demo file with a tenants file beside it, real vLLM. The workload is long outputs
(60 tokens in, 400 out): an engine that answers few requests, so that ten times its capacity can be
offered to it from the same two cores; the flood also comes in other sizes. For each case:

- neighbour: a tenant at a fifth of the capacity, alone and when one comes that offers ten times it.
- weights: two tenants of weights 3 and 1, each asking for more than everything.
- quota: a tenant that asks for everything and has a quota of a tenth of the capacity's tokens.
- flood: batch alone, asking for 3 times the capacity, whose tokens/s are what there is; then
  interactive requests at a share of that (`--loads`), alone and with the same batch, and batch
  alone again. What they leave is left to batch. One size of requests for each capacity given.
- emulated-flood: the same on an emulated engine, one `h100-8b` slowed, with chat requests (1,000
  tokens in, 100 out). Its times are slowed ones.

Run as: python benchmarks/tenants.py --capacity '{"long outputs": 15.3}' [--parts neighbour,flood]
or as:  python benchmarks/tenants.py --parts emulated-flood [--seconds 120] [--loads 0.4,0.6]
A p95 of few requests says little: `--seconds` of some hundreds where a flood has to be decided.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import systems
from client import (
    LONG_OUTPUTS,
    WORKLOADS,
    Workload,
    admitted_ttft,
    lag_p99_ms,
    played,
    settle,
    spare_cores,
    traced,
)
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import RequestRecord, adjusted_percentile, percentile
from forebay.spec.tenants import key_hash, new_key
from tables import Bar, exit_by_bars, print_bars, print_table, write

PORT = 8000
EMULATED = systems.ROOT / "examples" / "emulated-fleet.yaml"
SECONDS, WARM_S = 30.0, 5.0
EMULATED_S = 4 * SECONDS  # slowed ones
TTFT_S, TPOT_S = 1.0, 0.5  # the demo file's SLO
KEYS = {name: new_key() for name in ("modest", "greedy", "heavy", "light", "metered")}
LEAST_KEPT, WEIGHT_OFF, FLOOD_RATIO, LEAST_BATCH = 0.97, 0.10, 1.3, 0.85

CHAT = Workload("chat", 1000, 100)
GIVES_UP_S = 600.0  # more than what batch is promised, slowed
SLOWED = 6.0  # so that two cores carry the engine's tokens beside the client
# Requests/s of CHAT that the profile finishes when it never lacks any, in virtual time.
CHAT_CAPACITY = 28.1
BATCH_LOAD = 3.0  # of the capacity
PLATFORM = {"emulated-flood": "emulated"}  # of the parts that do not run on the demo service

Part = tuple[list[dict[str, Any]], list[Bar]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--capacity", type=json.loads, default={}, help="JSON, requests/s by workload"
    )
    parser.add_argument("--parts", default="neighbour,weights,quota,flood")
    parser.add_argument("--loads", default="0.4", help="of interactive requests in a flood")
    parser.add_argument(
        "--seconds",
        type=float,
        help=f"of each run of a flood; default: {SECONDS:g}, emulated {EMULATED_S:g}",
    )
    options = parser.parse_args()
    capacity: dict[str, float] = options.capacity
    loads = [float(load) for load in options.loads.split(",")]
    best = capacity.get(LONG_OUTPUTS.name, 0.0)
    parts: dict[str, Callable[[str, float], Part]] = {
        "neighbour": neighbour,
        "weights": weights,
        "quota": quota,
        "flood": lambda url, _: joined(
            floods(url, rate, loads, WORKLOADS[name], options.seconds or SECONDS)
            for name, rate in capacity.items()
        ),
        "emulated-flood": lambda url, _: floods(
            url, CHAT_CAPACITY / SLOWED, loads, CHAT, options.seconds or EMULATED_S
        ),
    }
    names = options.parts.split(",")
    if set(names) & {"neighbour", "weights", "quota"} and best <= 0:
        parser.error(f"--capacity of {LONG_OUTPUTS.name!r} is needed")
    if "flood" in names and not (capacity and capacity.keys() <= WORKLOADS.keys()):
        parser.error(f"--capacity is needed for flood, of some of {', '.join(WORKLOADS)}")
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    for platform in dict.fromkeys(PLATFORM.get(name, "demo") for name in names):
        with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
            file = service_file(Path(folder), best, platform)
            with systems.running("tenants", systems.forebay(PORT, file), PORT) as server:
                for name in names:
                    if PLATFORM.get(name, "demo") == platform:
                        found, asked = parts[name](server.url, best)
                        rows += found
                        bars += asked
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    print_bars(bars)
    write("tenants", {"capacity": capacity, "rows": rows, "bars": [bar.as_dict() for bar in bars]})


def service_file(folder: Path, best: float, platform: str) -> Path:
    """The demo's service, or one emulated replica, with tenants."""
    tokens = LONG_OUTPUTS.prompt_tokens + LONG_OUTPUTS.output_tokens
    tenants = [
        {"name": name, "key_hashes": [key_hash(key)], "weight": 3 if name == "heavy" else 1}
        for name, key in KEYS.items()
    ]
    tenants[-1]["tokens_per_minute"] = max(round(0.1 * best * tokens * 60), 1)
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": tenants}))
    spec = yaml.safe_load(systems.DEMO.read_text())
    if platform == "emulated":
        spec = yaml.safe_load(EMULATED.read_text())
        spec["model"] |= {"id": systems.MODEL, "slowed": SLOWED}
        spec["scaling"] = {"min": 1, "max": 1}
    file = folder / "service.yaml"
    file.write_text(yaml.safe_dump({**spec, "tenants": "tenants.yaml"}))
    return file


def neighbour(url: str, best: float) -> Part:
    """A modest tenant, alone and from the moment on at which a greedy one comes."""
    alone = play(url, {"modest": 0.2 * best}, seconds=2 * SECONDS)
    both = {"modest": 0.2 * best, "greedy": 10 * best}
    beside = play(url, both, seconds=2 * SECONDS, later=("greedy",))
    rows = [row("neighbour: alone", alone, "modest"), row("neighbour: beside", beside, "modest"),
            row("neighbour: beside", beside, "greedy")]  # fmt: skip
    kept = rows[1]["good share"] / max(rows[0]["good share"], 1e-9)
    return rows, [
        Bar("neighbour: share of its goodput kept", kept, LEAST_KEPT, at_least=True),
        Bar("neighbour: its TTFT p99", rows[1]["TTFT p99 s"], TTFT_S, "s"),
    ]


def weights(url: str, best: float) -> Part:
    """Two tenants that saturate, of weights 3 and 1."""
    run = play(url, {"heavy": 2.0 * best, "light": 2.0 * best})
    rows = [row("weights", run, "heavy"), row("weights", run, "light")]
    ratio = rows[0]["tokens/s"] / max(rows[1]["tokens/s"], 1e-9)
    return rows, [Bar("weights: ratio of tokens, off from 3 by", abs(ratio / 3 - 1), WEIGHT_OFF)]


def quota(url: str, best: float) -> Part:
    """A tenant that asks for everything, and may have a tenth."""
    run = play(url, {"metered": 1.0 * best}, seconds=2 * SECONDS)
    found = row("quota", run, "metered")
    used = sum(tokens_of(r) for r in run.records if r.tenant == "metered")
    limit = 0.1 * best * (LONG_OUTPUTS.prompt_tokens + LONG_OUTPUTS.output_tokens) * 60
    return [found], [
        Bar("quota: tokens of a minute over the quota", used / limit - 1, 0.05),
        Bar("quota: of it used", used / limit, 0.8, at_least=True),
    ]


def floods(url: str, best: float, loads: Sequence[float], size: Workload, seconds: float) -> Part:
    """Each load of interactive requests, alone and with batch behind them, between batch alone.

    A machine's capacity is another some minutes later, and an emulated engine loses some of its own
    to the core that it shares. So what there is is what batch has alone, in the mean of just before
    and just after.
    """
    rows, bars = [batch_alone(url, best, size, seconds)], []
    for load in loads:
        before = rows[-1]["tokens/s"]
        found = flood(url, best, load * before, size, seconds, f"{size.name} at {load:g}")
        after = batch_alone(url, best, size, seconds)
        alone, modest, batch = found
        left = (before + after["tokens/s"]) / 2 - modest["tokens/s"]
        used = batch["tokens/s"] / left
        ratio = modest["refused: endless"] / alone["refused: endless"]
        name = f"flood, {size.name} at {load:g}"
        bars += [
            Bar(f"{name}: interactive TTFT p95, x of alone", ratio, FLOOD_RATIO),
            Bar(f"{name}: batch uses of what is left", used, LEAST_BATCH, at_least=True),
        ]
        rows += [*found, after]
    return rows, bars


def batch_alone(url: str, best: float, size: Workload, seconds: float) -> dict[str, Any]:
    """What batch has of the engine while nobody else comes."""
    only = play(url, {"modest": 0.0}, batch=BATCH_LOAD * best, size=size, seconds=seconds)
    return row(f"{size.name}: batch alone", only, "batch", of_class="batch")


def flood(
    url: str, best: float, tokens_s: float, size: Workload, seconds: float, name: str
) -> list[dict[str, Any]]:
    """Interactive requests of so many tokens/s: alone, with batch behind them, and that batch."""
    rates = {"modest": tokens_s / (size.prompt_tokens + size.output_tokens)}
    alone = play(url, rates, size=size, seconds=seconds)
    beside = play(url, rates, batch=BATCH_LOAD * best, size=size, seconds=seconds)
    return [
        row(f"{name}: alone", alone, "modest"),
        row(f"{name}: with batch", beside, "modest"),
        row(f"{name}: with batch", beside, "batch", of_class="batch"),
    ]


def joined(parts: Iterable[Part]) -> Part:
    """The rows and bars of several."""
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    for found, asked in parts:
        rows += found
        bars += asked
    return rows, bars


def play(
    url: str,
    rates: dict[str, float],
    *,
    batch: float = 0.0,
    size: Workload = LONG_OUTPUTS,
    seconds: float = SECONDS,
    later: Sequence[str] = (),
) -> LoadRun:
    """Poisson arrivals of each tenant at its rate, and of batch by the first of them.

    Those named in `later` come once the warm-up is over. A tenant's arrivals are the same whoever
    else comes.
    """
    settle_as(url)
    flows = [(name, "interactive", rate) for name, rate in rates.items() if rate]
    if batch:
        flows.append((next(iter(rates)), "batch", batch))
    asked = arrivals(flows, size, seconds, dict.fromkeys(later, WARM_S))
    with traced("tenants", asked) as spec:
        return played(
            LoadPlan(
                endpoint=Endpoint(url=url, model=systems.MODEL),
                workload=spec,
                cores=spare_cores(),
                timeout_s=GIVES_UP_S,
                tenant_headers={n: {"Authorization": f"Bearer {k}"} for n, k in KEYS.items()},
            )
        )


def arrivals(
    flows: Sequence[tuple[str, str, float]],
    size: Workload,
    seconds: float,
    starts: Mapping[str, float],
) -> list[dict[str, Any]]:
    """A trace of Poisson flows, (tenant, class, requests/s) each, some of which come later (s)."""
    found = []
    for number, (tenant, of_class, rate) in enumerate(flows):
        rng = np.random.default_rng((7, number))
        times = starts.get(tenant, 0.0) + np.cumsum(
            rng.exponential(1.0 / rate, int(2 * rate * seconds) + 20)
        )
        what = {"prompt_tokens": size.prompt_tokens, "output_tokens": size.output_tokens}
        found += [
            {"at_s": float(at), "tenant": tenant, "class": of_class, **what}
            for at in times[times < seconds]
        ]
    return sorted(found, key=lambda row: float(row["at_s"]))


def settle_as(url: str) -> None:
    settle(url, headers={"Authorization": f"Bearer {KEYS['modest']}"})


def row(case: str, run: LoadRun, tenant: str, of_class: str = "interactive") -> dict[str, Any]:
    """One tenant's or class's part of a run, after its first seconds."""
    all_mine = [r for r in run.records if belongs(r, tenant, of_class)]
    mine = [r for r in all_mine if r.intended_s >= WARM_S]
    served = [r for r in mine if r.outcome == "ok"]
    ttfts = [r.ttft for r in mine if r.ttft is not None]
    endless = adjusted_percentile(ttfts, len(mine) - len(ttfts), 95)
    good = sum(r.is_good(TTFT_S, TPOT_S) for r in mine)
    return {
        "case": case,
        "of": tenant,
        "offered/s": len(mine) / (run.duration_s - WARM_S),
        "served": len(served),
        "shed": sum(r.outcome == "shed" for r in mine),
        "mostly for": reasons(mine),
        "failed": sum(r.failure for r in mine),
        "good share": good / max(len(mine), 1),
        "TTFT p95 s": percentile(ttfts, 95),
        "refused: endless": endless,
        "TTFT p99 s": admitted_ttft(mine, 99),
        # Of all: what batch is given in the first twenty seconds was asked for in the first few.
        "tokens/s": tokens_while(all_mine, run.duration_s),
        "lag p99 ms": lag_p99_ms(run),
    }


def reasons(records: Sequence[RequestRecord]) -> str:
    """Why most of the refused were."""
    counted = Counter(r.reason for r in records if r.outcome == "shed")
    return ", ".join(f"{reason} {count}" for reason, count in counted.most_common(2))


def belongs(record: RequestRecord, tenant: str, of_class: str) -> bool:
    if of_class == "batch":
        return record.class_name == "batch"
    return record.tenant == tenant and record.class_name != "batch"


def tokens_of(record: RequestRecord) -> int:
    return record.prompt_tokens + record.tokens_out if record.tokens_out else 0


def tokens_while(records: Sequence[RequestRecord], end_s: float) -> float:
    """Tokens/s between the warm-up and the end of the offered load, prompts with their first.

    An answer's tokens come in chunks of several; each is taken for as large as the others.
    """
    total = 0.0
    for record in records:
        chunks = record.token_times or ()
        inside = [at for at in chunks if WARM_S <= at < end_s]
        if inside:
            total += (record.tokens_out or len(chunks)) * len(inside) / len(chunks)
            total += record.prompt_tokens if inside[0] == chunks[0] else 0
    return total / (end_s - WARM_S)


if __name__ == "__main__":
    exit_by_bars(main)
