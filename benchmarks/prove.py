"""One short proof, at most 20 minutes on two cores: does this state keep what it promises?

Real vLLM with the demo model, started by `forebay serve` on the demo file with a tenants file
beside it, every request with a key:

- overhead: 64 clients in a closed loop and one, beside vLLM's own server;
- overload: three times the capacity, of short requests, long prompts and long outputs;
- neighbour: a tenant at a fifth of the capacity, alone and beside one that offers ten times it;
- fleet: two emulated replicas behind the router, at three times what they carry.

Everything is measured twice. With `--against` a commit is checked out beside this one, both take
turns (A B B A, A the commit) and each figure is called same, better or worse beyond noise
(`verdicts.py` has the rule). Both get the same files, the same load from this state's client, and
the same rates: what the first service of the run completed in a closed loop. CPU is of all the
processes of a service, Ray's and HAProxy's included, per request that was let in.

Needs a quiet machine. Exit code 0: nothing is worse; 1: something is; 2: wrong input; 3: it could
not be measured here.

Example: python benchmarks/prove.py --against HEAD~5 --only overhead --json runs/prove.json
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from forebay.serving.cluster import EnvironmentFailedError
from tables import print_table
from verdicts import Compared, compared

PORT = 8017
RAW = "raw vLLM"
PARTS = ("overhead", "overload", "neighbour", "fleet")
AUTHORIZED = {"Authorization": f"Bearer {tenants.KEYS['modest']}"}
TTFT_S = 1.0  # promised by both services, see `tenants.service_file` and `fleet_file`
CLIENTS, BUSY = 64, Workload("64 clients", 100, 32)
WARM_S, BUSY_S, SINGLE_S = 5.0, 13.0, 5.0
PROBE_S = 8.0
FACTOR, OVERLOAD_S, FILLS_S = 3.0, 16.0, 4.0  # an idle engine takes whatever comes first
NEIGHBOUR_S = 13.0  # the first five are not counted, see `tenants.row`
# Two L4s by their profile: 13 requests/s, tokens at the promised pace (`fleet_parts.capacity`).
FLEET = Workload("fleet", 1000, 32)
FLEET_RATE = 40.0

Found = dict[str, float]


@dataclass(frozen=True)
class Kind:
    """A kind of figure: whether more of it is better, and the share of it that is always noise."""

    more_is_better: bool = False
    noise: float = 0.10


# By the last words of a figure's name.
KINDS = {
    "requests/s": Kind(more_is_better=True, noise=0.05),
    "good/s": Kind(more_is_better=True, noise=0.05),
    "goodput kept": Kind(more_is_better=True, noise=0.03),
    "CPU ms per admitted": Kind(noise=0.05),
    "TTFT p50 ms": Kind(),
    "TTFT p99 ms": Kind(),
    "refusal p99 ms": Kind(noise=0.25),
    "failed or no Retry-After": Kind(noise=0.0),
}


@dataclass(frozen=True)
class State:
    """A state of the code that is measured."""

    name: str
    tree: Path


def main() -> int:
    options = parse()
    say = Progress()
    try:
        with states(options.against) as (before, now):
            runs = measured([before, now, now, before] if before else [now, now], options.only, say)
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        return 130
    except (RuntimeError, OSError, EnvironmentFailedError) as error:
        say(f"could not be measured here: {error}")
        return 3
    verdicts = judged(runs)
    report(runs, verdicts)
    if options.json:
        content = {
            "runs": [{"of": name, "figures": finite(found)} for name, found in runs],
            "verdicts": {name: asdict(verdict) for name, verdict in verdicts.items()},
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1))
    return int(any(verdict.verdict == "worse" for verdict in verdicts.values()))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="COMMIT", help="take turns with this state")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there too")
    options = parser.parse_args()
    options.only = options.only or PARTS
    if options.against:
        named = git("rev-parse", "--verify", "--quiet", f"{options.against}^{{commit}}")
        if named.returncode:
            parser.error(f"--against: git knows no commit {options.against!r}")
        options.against = named.stdout.strip()
    return options


class Progress:
    """Says on stderr how far it is."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, line: str) -> None:
        print(f"{time.monotonic() - self._started:6.0f} s  {line}", file=sys.stderr, flush=True)


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", "-C", str(systems.ROOT), *arguments], capture_output=True, text=True, check=False
    )


@contextmanager
def states(commit: str | None) -> Iterator[tuple[State | None, State]]:
    """The commit in a worktree of its own, if one is asked for, and this state.

    Raises:
        RuntimeError: git makes no worktree of it.
    """
    now = State("now", systems.ROOT)
    if commit is None:
        yield None, now
        return
    with tempfile.TemporaryDirectory(prefix="forebay-prove-") as folder:
        tree = Path(folder) / "tree"
        try:
            made = git("worktree", "add", "--detach", str(tree), commit)
            if made.returncode:
                raise RuntimeError(f"git makes no worktree of {commit}: {made.stderr.strip()}")
            yield State(commit[:10], tree), now
        finally:
            with systems.undisturbed():
                git("worktree", "remove", "--force", str(tree))


def measured(
    order: Sequence[State], parts: Sequence[str], say: Progress
) -> list[tuple[str, Found]]:
    """The figures of each state, as often as it is in the order; vLLM's own in the middle."""
    runs: list[tuple[str, Found]] = []
    rates: dict[str, float] = {}
    for number, state in enumerate(order):
        if number == len(order) // 2 and "overhead" in parts:
            raw = raw_vllm(say)
        found: Found = {}
        say(f"run {number + 1} of {len(order)}: {state.name}")
        if set(parts) - {"fleet"}:
            found |= real(state, parts, rates, say)
        if "fleet" in parts:
            found |= fleet(state, say)
        runs.append((state.name, found))
    return [*runs, (RAW, raw)] if "overhead" in parts else runs


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
    run, cpu_s = loaded(server, BUSY, headers, clients=CLIENTS, seconds=BUSY_S)
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
    run, cpu_s = loaded(server, workload, headers, stages=[(rate, OVERLOAD_S)], seed=11)
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
    server: systems.Server, workload: Workload, headers: Mapping[str, str], **how: Any
) -> tuple[LoadRun, float]:
    """A run from rest to rest, and the CPU seconds that the server's processes took for it.

    One whose client was late is made again, once.

    Raises:
        RuntimeError: it was late again: this machine has too much else to do.
    """
    for _ in range(2):
        settle(server.url, headers=headers)
        before = sum(server.cpu_seconds().values())
        run = load(server.url, workload, headers=headers, **how)
        if is_valid(run):
            return run, sum(server.cpu_seconds().values()) - before
    raise RuntimeError(f"the load's client was late: {'; '.join(run.validity.reasons)}")


def served(run: LoadRun) -> int:
    return sum(record.outcome == "ok" for record in run.records)


def ms(seconds: float | None) -> float:
    """Milliseconds; endless where there was no such thing."""
    return math.inf if seconds is None else 1e3 * seconds


def told(say: Progress, found: Found) -> Found:
    say("  " + "; ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def judged(runs: Sequence[tuple[str, Found]]) -> dict[str, Compared]:
    """The verdict on each figure; none where one state was measured alone."""
    before = [found for name, found in runs if name not in ("now", RAW)]
    now = [found for name, found in runs if name == "now"]
    return {
        figure: compared(
            [found[figure] for found in before],
            [found[figure] for found in now],
            at_least=kind.noise,
            more_is_better=kind.more_is_better,
        )
        for figure, kind in ((name, KINDS[name.split(": ")[1]]) for name in now[0])
        if before
    }


def finite(found: Found) -> dict[str, float | None]:
    """For JSON, which knows nothing endless."""
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def report(runs: Sequence[tuple[str, Found]], verdicts: Mapping[str, Compared]) -> None:
    """One table: each figure run by run, and what is said of it."""
    head = ["figure", *(name for name, _ in runs), *(["change", "noise", ""] if verdicts else [])]
    rows = []
    for figure in runs[0][1]:
        row: list[object] = [figure, *(found.get(figure, "") for _, found in runs)]
        if verdict := verdicts.get(figure):
            shares = (verdict.change, verdict.noise)
            row += ["-" if share is None else f"{share:+.1%}" for share in shares]
            row.append(verdict.verdict)
        rows.append(row)
    print_table(head, rows)


if __name__ == "__main__":
    sys.exit(main())
