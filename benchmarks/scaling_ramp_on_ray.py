"""llm-d's published ramp on real Ray Serve: attainment and replicas, engines emulated in real time.

Rates, bounds, SLO and cold start are those of `scaling_ramp.py`, which plays llm-d's own sizes of
requests in virtual time. Here every request is sent and every token streamed at the engine's own
speed, which two cores carry for a smaller one: `l4-8b` with 2,000 tokens in and 150 out, of which
10 requests/s keep 5.8 replicas busy, so that seven hold the SLO and four do not. A system takes 45
minutes. A replica counts from when it is asked for until its process is gone. How late the emulator
is counts over all steps of a replica: where others start, whole seconds of both cores go into that.

With `--kill-controller`, Serve's controller is killed in the middle of the climb. With `--slowed`
all the world's times are so many times as long and its rates as low (steps, cold start, SLO,
stages, how long a fleet stays before it shrinks), for a machine that is too slow for seven
emulators or held up by its host; Forebay's own times (how often it decides, how fast it learns)
stay as they are.

Run as: python benchmarks/scaling_ramp_on_ray.py [--systems "forebay,static 7"] [--slowed 1]
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import yaml

import systems
from client import lag_p99_ms, played
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import LEAST_IDLE, MOST_LATE
from forebay.spec.workload import WorkloadSpec, fixed_workload
from scaling_faults import ControllerKilled
from scaling_fleet import MODEL, PORT, STORY, Look, Watch, story
from scaling_ramp import (
    ATTAINED,
    COLD_START_S,
    REPLICAS,
    STABLE_S,
    STAGES,
    THEIRS,
    TPOT_S,
    TTFT_S,
)
from scaling_ramp import ON_RAY as SIZES
from tables import Bar, exit_by_bars, print_bars, print_table, write

FEWEST, MOST = 3, 8
CLIMB = 5  # stages of the ramp up to its peak
SYSTEMS = ("forebay", "forebay 15%", "forebay 10%", "static 4", "static 7")
_HEADROOM = "20%"  # Forebay's default
_LOOK_S = 2.0
_BACK_WITHIN_S = 900.0  # to the smallest fleet, once nobody asks any more
_REPLICA = "ray::ServeReplica"

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    choice = ", ".join(SYSTEMS).replace("%", "%%")  # argparse fills in what % stands for
    parser.add_argument("--systems", default="forebay", help=f"of {choice}")
    parser.add_argument("--stages", type=int, default=len(STAGES), help="how many of the ramp")
    parser.add_argument("--kill-controller", action="store_true", help="in the climb")
    parser.add_argument("--slowed", type=float, default=1.0, help="times longer, rates lower")
    options = parser.parse_args()
    if options.slowed < 1:
        parser.error(f"--slowed: {options.slowed:g}; at least 1")
    names = [name.strip() for name in options.systems.split(",")]
    if unknown := sorted(set(names) - set(SYSTEMS)):
        parser.error(f"--systems: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    slowed = options.slowed
    stages = [(rate / slowed, seconds * slowed) for rate, seconds in STAGES[: options.stages]]
    rows, bars = [], list[Bar]()
    for name in names:
        row, of_kill = measured(name, stages, slowed, kill=options.kill_controller)
        rows.append(row)
        bars += [*judged(row), *of_kill]
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    print(f"llm-d's, published: {THEIRS[3]} % with {THEIRS[4]} replicas")
    print_bars(bars)
    write("scaling_ramp_on_ray", {"rows": rows, "bars": [bar.as_dict() for bar in bars]})


def measured(
    name: str, stages: Sequence[tuple[float, float]], slowed: float, *, kill: bool = False
) -> tuple[Row, list[Bar]]:
    """One system under the ramp, until its fleet is at its smallest again."""
    with served(name, slowed) as (server, watch, replicas):
        began = time.time()
        climb_s = sum(seconds for _, seconds in stages[:CLIMB])
        killed = ControllerKilled(server, watch, climb_s, _is_climbing) if kill else None
        run = played(
            LoadPlan(
                endpoint=Endpoint(url=server.url, model=MODEL),
                workload=ramp(stages),
                timeout_s=900.0 * slowed,
                keep_token_times=False,
            )
        )
        load_s = time.time() - began
        of_kill = killed.bars(began + climb_s) if killed else []
        watch.until(lambda look: look.ready <= replicas.fewest, _BACK_WITHIN_S * slowed)
        counted = replicas.end()
        print_table(STORY, story(watch, began))
        each = sorted(watch.late_so_far.values(), reverse=True)
        print("late at p99, each replica:", ", ".join(f"{100 * late:.1f} %" for late in each))
    row = {
        "system": name,
        "slowed": slowed,
        **outcomes(run, slowed),
        "average replicas": round(average(counted, began), 2),
        "most": max(count for _, count in counted),
        "load s": round(load_s),
        "late p99 %": round(100 * max(each, default=0.0), 1),
        "idle %": round(100 * (run.client.machine_idle or 0.0), 1),
        "lag p99 ms": round(lag_p99_ms(run), 1),
        "valid": run.validity.valid,
    }
    return row, of_kill


def _is_climbing(look: Look) -> bool:
    return (look.target or 0) > FEWEST + 1


def outcomes(run: LoadRun, slowed: float) -> Row:
    """What became of the requests of a world so many times slower."""
    records = run.records
    served = [one for one in records if one.outcome == "ok"]
    good = sum(one.is_good(TTFT_S * slowed, TPOT_S * slowed) for one in records)
    return {
        "requests": len(records),
        "SLO attained, %": round(100 * good / len(records), 2),
        "shed": sum(one.outcome == "shed" for one in records),
        "served late": len(served) - good,
        "failed": sum(one.failure for one in records),
    }


def ramp(stages: Sequence[tuple[float, float]]) -> WorkloadSpec:
    """Poisson arrivals; answers differ a little in length, as in virtual time."""
    plain = fixed_workload("ramp", SIZES.prompt, SIZES.answer, stages=stages, seed=1).plain()
    output = {"uniform": [SIZES.answer - SIZES.spread, SIZES.answer + SIZES.spread - 1]}
    requests = [{**kind, "output": output} for kind in plain["requests"]]
    return WorkloadSpec.model_validate({**plain, "requests": requests})


@contextmanager
def served(name: str, slowed: float) -> Iterator[tuple[systems.Server, Watch, Replicas]]:
    """The system of this name, watched."""
    spec = service(name, slowed)
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        file = Path(folder) / "ramp.yaml"
        file.write_text(yaml.safe_dump(spec))
        with systems.running("ramp", systems.forebay(PORT, file), PORT, model_cores=1) as server:
            watch = Watch(server.url)
            fewest = spec["scaling"]["min"]
            watch.until(lambda look: look.ready >= fewest, COLD_START_S * slowed + 120.0)
            replicas = Replicas(server, watch, fewest)
            try:
                yield server, watch, replicas
            finally:
                replicas.end()
                watch.end()


def service(name: str, slowed: float) -> dict[str, Any]:
    """The file that a system is started from."""
    kind, _, value = name.partition(" ")
    if kind == "static":
        scaling: dict[str, Any] = {"min": int(value), "max": int(value)}
    else:
        stable = f"{STABLE_S * slowed:g}s"
        scaling = {"min": FEWEST, "max": MOST, "headroom": value or _HEADROOM, "stable": stable}
    return {
        "name": "ramp",
        "model": {
            "id": MODEL,
            "engine": "emulated",
            "source": SIZES.profile,
            "slowed": slowed,
            "cold_start": f"{COLD_START_S:g}s",
        },
        "slo": {"ttft_p99": f"{TTFT_S:g}s", "tpot_p99": f"{1000 * TPOT_S:g}ms"},
        "scaling": {**scaling, "cold_start": f"{COLD_START_S * slowed:g}s"},
    }


class Replicas:
    """Counts a fleet's replicas all the time: those that are asked for, those that still drain."""

    def __init__(self, server: systems.Server, watch: Watch, fewest: int) -> None:
        self.fewest = fewest
        self._server = server
        self._watch = watch
        self._counts: list[tuple[float, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._count, daemon=True)
        self._thread.start()

    def _count(self) -> None:
        while not self._over.wait(_LOOK_S):
            asked = self._watch.looks[-1].target or self.fewest
            self._counts.append((time.time(), max(asked, self._processes())))

    def _processes(self) -> int:
        count = 0
        for process in self._server.processes():
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                title = process.cmdline()[0]
                count += title.startswith(_REPLICA) and ":emul" in title  # titles are cut
        return count

    def end(self) -> list[tuple[float, int]]:
        """Count no more; what was counted, with times of `time.time`."""
        self._over.set()
        self._thread.join()
        return self._counts


def average(counted: Sequence[tuple[float, int]], began: float) -> float:
    """Replicas over time, from when the load began to the last count."""
    spans = [(end - max(at, began), count) for (at, count), (end, _) in pairwise(counted)]
    spans = [(seconds, count) for seconds, count in spans if seconds > 0]
    return sum(s * count for s, count in spans) / sum(s for s, _ in spans)


def judged(row: Row) -> list[Bar]:
    """The bars that one system's row says something of."""
    name = row["system"]
    sound = [
        Bar(f"{name}: emulator's steps late at p99", row["late p99 %"], 100 * MOST_LATE, "%"),
        Bar(f"{name}: machine idle", row["idle %"], 100 * LEAST_IDLE, "%", at_least=True),
    ]
    attained = row["SLO attained, %"]
    if name == "static 4":
        return [Bar("static 4 does not hold the SLO", attained, 90.0, "%"), *sound]
    bar = Bar(f"{name}: SLO attained", attained, 100 * ATTAINED, "%", at_least=True)
    if name.startswith("static"):
        return [bar, *sound]
    return [bar, Bar(f"{name}: average replicas", row["average replicas"], REPLICAS), *sound]


if __name__ == "__main__":
    exit_by_bars(main)
