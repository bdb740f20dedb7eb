"""What `prove.py` measures of one state of the code: figures by name, and how."""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

import systems
import tenants
from client import (
    LONG_OUTPUTS,
    WORKLOADS,
    Workload,
    admitted_ttft,
    completion_rate,
    is_valid,
    load,
    settle,
)
from forebay.load.run import LoadRun
from forebay.measure import percentile

PORT = 8017
RAW = "raw vLLM"
AUTHORIZED = {"Authorization": f"Bearer {tenants.KEYS['modest']}"}
TTFT_S = 1.0  # promised by both services, see `tenants.service_file` and `fleet_file`
CLIENTS, BUSY = 64, Workload("64 clients", 100, 32)
WARM_S, BUSY_S, SINGLE_S = 5.0, 13.0, 5.0
PROBE_S = 8.0
FACTOR, OVERLOAD_S, FILLS_S = 3.0, 16.0, 4.0  # an idle engine takes whatever comes first
QUIET = 0.05  # of the machine: what others may take of it
NEIGHBOUR_S = 13.0  # the first five are not counted, see `tenants.row`
# Two L4s by their profile: 13 requests/s, tokens at the promised pace (`fleet_parts.capacity`).
FLEET = Workload("fleet", 1000, 32)
FLEET_RATE = 40.0

Found = dict[str, float]


@dataclass(frozen=True)
class State:
    """A state of the code that is measured."""

    name: str
    tree: Path


class Progress:
    """Says on stderr how far it is."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, line: str) -> None:
        print(f"{time.monotonic() - self._started:6.0f} s  {line}", file=sys.stderr, flush=True)


def raw_vllm(say: Progress) -> Found:
    """VLLM's own server under the loads of the overhead."""
    say(RAW)
    with systems.running("prove-raw", systems.raw_vllm(PORT), PORT) as server:
        return overhead(server, {}, say)


def real(state: State, parts: Sequence[str], rates: dict[str, float], say: Progress) -> Found:
    """What is measured on real vLLM, in one start; fills in the capacities if there are none."""
    found: Found = {}
    with (
        tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder,
        serving(state, tenants.service_file(Path(folder), 0.0, "demo"), say) as server,
    ):
        if "overhead" in parts:
            found |= overhead(server, AUTHORIZED, say)
        if not rates and {"overload", "neighbour"} & set(parts):
            rates |= {name: capacity(server, name, say) for name in WORKLOADS}
        if "overload" in parts:
            for name, workload in WORKLOADS.items():
                found |= overload(server, workload, FACTOR * rates[name], say, AUTHORIZED)
        if "neighbour" in parts:
            found |= neighbour(server, rates[LONG_OUTPUTS.name], say)
    return found


def fleet(state: State, say: Progress) -> Found:
    """Two emulated L4s behind the router; their engines compute nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder,
        serving(state, fleet_file(Path(folder)), say, model_cores=1) as server,
    ):
        load(server.url, FLEET, stages=[(FLEET_RATE / 10, WARM_S)])
        return overload(server, FLEET, FLEET_RATE, say, {})


def fleet_file(folder: Path) -> Path:
    spec = yaml.safe_load(tenants.EMULATED.read_text())
    spec["model"] = {"id": systems.MODEL, "engine": "emulated", "source": "l4-8b"}
    spec["slo"] = {"ttft_p99": f"{TTFT_S:g}s", "tpot_p99": "100ms"}
    spec["scaling"] = {"min": 2, "max": 2}
    file = folder / "fleet.yaml"
    file.write_text(yaml.safe_dump(spec))
    return file


@contextmanager
def serving(
    state: State, file: Path, say: Progress, model_cores: int | None = None
) -> Iterator[systems.Server]:
    """A service of a state of the code."""
    command, source = systems.forebay(PORT, file), state.tree / "src"
    with systems.running("prove", command, PORT, model_cores=model_cores, source=source) as server:
        say(f"  ready after {server.notes['ready_s']} s")
        yield server


def overhead(server: systems.Server, headers: Mapping[str, str], say: Progress) -> Found:
    """64 clients, then one, each asking again when it has its answer."""
    load(server.url, BUSY, clients=CLIENTS, seconds=WARM_S, headers=headers)
    run, cpu_s = loaded(server, BUSY, headers, say, clients=CLIENTS, seconds=BUSY_S)
    single = load(server.url, BUSY, clients=1, seconds=SINGLE_S, headers=headers)
    return told(say, {
        "64 clients: requests/s": completion_rate(run, CLIENTS),
        "64 clients: CPU ms per admitted": 1e3 * cpu_s / max(served(run), 1),
        "1 client: TTFT p50 ms": ms(single.summary.ttft_p50),
    })  # fmt: skip


def capacity(server: systems.Server, name: str, say: Progress) -> float:
    """Requests/s of a workload that are served to clients of whom there are enough."""
    settle(server.url, headers=AUTHORIZED)
    run = load(server.url, WORKLOADS[name], clients=CLIENTS, seconds=PROBE_S, headers=AUTHORIZED)
    ended_s = max(record.ended_s for record in run.records)
    rate = served(run) / ended_s
    say(f"  capacity, {name}: about {rate:.1f}/s")
    return rate


def overload(
    server: systems.Server,
    workload: Workload,
    rate: float,
    say: Progress,
    headers: Mapping[str, str],
) -> Found:
    """Far more than it can carry, from the moment on at which the engines have filled up."""
    run, cpu_s = loaded(server, workload, headers, say, stages=[(rate, OVERLOAD_S)], seed=11)
    name, full = workload.name, [r for r in run.records if r.intended_s >= FILLS_S]
    refused = [r for r in full if r.outcome == "shed"]
    lost = sum(r.failure for r in full) + sum(r.retry_after_s is None for r in refused)
    return told(say, {
        f"{name}: good/s": sum(r.is_good(TTFT_S) for r in full) / (OVERLOAD_S - FILLS_S),
        f"{name}: TTFT p99 ms": ms(admitted_ttft(full, 99)),
        f"{name}: refusal p99 ms": ms(percentile([r.e2e for r in refused], 99)),
        f"{name}: CPU ms per admitted": 1e3 * cpu_s / max(served(run), 1),
        f"{name}: failed or no Retry-After": float(lost),
    })  # fmt: skip


def neighbour(server: systems.Server, best: float, say: Progress) -> Found:
    """A modest tenant, alone and from the moment on at which a greedy one comes."""
    modest, both = {"modest": 0.2 * best}, {"modest": 0.2 * best, "greedy": 10 * best}
    alone = tenants.play(server.url, modest, seconds=NEIGHBOUR_S)
    beside = tenants.play(server.url, both, seconds=NEIGHBOUR_S, later=("greedy",))
    rows = [tenants.row("neighbour", run, "modest") for run in (alone, beside)]
    return told(say, {
        "neighbour: goodput kept": rows[1]["good share"] / max(rows[0]["good share"], 1e-9),
        "neighbour: TTFT p99 ms": ms(rows[1]["TTFT p99 s"]),
    })  # fmt: skip


def loaded(
    server: systems.Server,
    workload: Workload,
    headers: Mapping[str, str],
    say: Progress,
    **how: Any,
) -> tuple[LoadRun, float]:
    """A run from rest to rest, and the CPU seconds that the server's processes took for it.

    One whose client was late is made again, once. What others take of the machine is told.

    Raises:
        RuntimeError: it was late again: this machine has too much else to do.
    """
    for _ in range(2):
        settle(server.url, headers=headers)
        began, machine_s, server_s = time.monotonic(), busy_s(), sum(server.cpu_seconds().values())
        run = load(server.url, workload, headers=headers, **how)
        used_s = sum(server.cpu_seconds().values()) - server_s
        others_s = busy_s() - machine_s - used_s - run.client.cpu_s
        others = others_s / (time.monotonic() - began) / (psutil.cpu_count() or 1)
        if others > QUIET:
            say(f"  not a quiet machine: others took {others:.0%} of it during {workload.name}")
        if is_valid(run):
            return run, used_s
    raise RuntimeError(f"the load's client was late: {'; '.join(run.validity.reasons)}")


def busy_s() -> float:
    """CPU seconds of this machine so far in which it was not idle."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


def served(run: LoadRun) -> int:
    return sum(record.outcome == "ok" for record in run.records)


def ms(seconds: float | None) -> float:
    """Milliseconds; endless where there was no such thing."""
    return math.inf if seconds is None else 1e3 * seconds


def told(say: Progress, found: Found) -> Found:
    say("  " + "; ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found
