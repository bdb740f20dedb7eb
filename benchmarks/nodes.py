"""Bar 7: a node killed under load: real Ray nodes, emulated engines (see `scaling_fleet.py`).

Four replicas, each on a node that Ray's autoscaler launched for it, carry 0.6 of what they can.
Every process of one node is killed at once. Counted: what of the requests in flight is cut, what of
those sent afterwards fails, and when four replicas serve again. Clients are at the head's HAProxy.

Run as: PYTHONPATH=tests/support python benchmarks/nodes.py
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

from ray_nodes import RayNodes

from client import lag_p99_ms
from forebay.load.run import LoadRun
from forebay.measure import RequestRecord
from forebay.spec.workload import fixed_workload
from scaling_fleet import Fleet, replicas_of, running, service, status
from tables import Bar, exit_by_bars, print_bars, print_table, write

REPLICAS, SHARE = 4, 0.6
PROMPT, ANSWER = 500, 50
LOAD_S, KILL_AT_S = 140.0, 45.0
AT_ONCE_S = 10.0
BACK_S = 30.0  # beyond a cold start
LEAST_SERVED = 95.0  # % of the first requests after the kill
IDLE_S = 60.0
REFUSED = "shed"
_REPLICAS_OWN = ("image", "weights", "compile", "warm_up")  # of a start, its node at hand


def main() -> None:
    os.environ["RAY_AUTH_MODE"] = "disabled"  # of the cluster's; a driver would ask for a token
    nodes = RayNodes(most=REPLICAS + 1, idle_s=IDLE_S)
    try:
        bars = measure(nodes)
    finally:
        nodes.end()
    print_bars(bars)
    write("nodes", {"bars": [bar.as_dict() for bar in bars]})


def measure(nodes: RayNodes) -> list[Bar]:
    """The whole of it on a cluster that runs."""
    spec = service(
        scaling={"min": REPLICAS, "max": REPLICAS + 1, "cold_start": "25s", "drain": "1m"},
        hardware={"cpus_per_replica": 1},
        server={"ray_address": nodes.address, "proxies": "head"},
    )
    with running(spec) as fleet:
        if fleet.watch.until(lambda look: look.ready == REPLICAS, 120.0) is None:
            raise RuntimeError(f"{REPLICAS} replicas did not come")
        cold_s = _start_s(fleet, _REPLICAS_OWN)
        before = set(nodes.nodes())
        run, killed_at = _killed_under_load(fleet, nodes)
        left = _when(fleet, killed_at, lambda ready: ready < REPLICAS)
        back = _when(fleet, left or killed_at, lambda ready: ready == REPLICAS)
        rows = _rows(run, killed_at)
        print_table(("requests", "number", "served", "shed", "failed"), rows)
        after = set(nodes.nodes())
        print(
            f"\n{len(before)} nodes; one killed {killed_at - run.started_at:.1f} s after the load "
            f"began; noticed after {_since(killed_at, left)}, {REPLICAS} ready again after "
            f"{_since(killed_at, back)}, {len(after - before)} new node; cold start as measured "
            f"{cold_s:.1f} s, of four at once, without a node; "
            f"client lag p99 {lag_p99_ms(run):.1f} ms"
        )
        return [
            Bar(
                f"served of those sent in the next {AT_ONCE_S:g} s",
                _percent(rows[2]),
                LEAST_SERVED,
                "%",
                at_least=True,
            ),
            Bar("failed of those sent later", int(str(rows[3][4])), 0),
            Bar(
                "all replicas back, after the kill + cold start",
                None if back is None else back - killed_at - cold_s,
                BACK_S,
                "s",
            ),
            fleet.watch.validity(),
        ]


def _killed_under_load(fleet: Fleet, nodes: RayNodes) -> tuple[LoadRun, float]:
    """The load's run, and when the node died (`time.time`)."""
    rate = SHARE * REPLICAS / replicas_of(1.0, PROMPT, ANSWER)
    workload = fixed_workload("steady", PROMPT, ANSWER, stages=[(rate, LOAD_S)], seed=1)
    killed: list[float] = []

    def kill() -> None:
        killed.append(time.time())
        nodes.kill(max(nodes.nodes()))

    timer = threading.Timer(KILL_AT_S, kill)
    timer.start()
    run = fleet.load(workload)
    timer.join()
    return run, killed[0]


def _start_s(fleet: Fleet, phases: Sequence[str]) -> float:
    """Seconds that these phases of a start took, on average over the replicas that told them."""
    starts = [one["start_s"] for one in status(fleet.server.url)["replicas"]]
    return fmean(sum(one.get(phase, 0.0) for phase in phases) for one in starts)


def _when(fleet: Fleet, since: float, holds: Callable[[int], bool]) -> float | None:
    for look in fleet.watch.since(since):
        if holds(look.ready):
            return look.at
    return None


def _since(killed_at: float, at: float | None) -> str:
    return "never" if at is None else f"{at - killed_at:.1f} s"


def _rows(run: LoadRun, killed_at: float) -> list[tuple[object, ...]]:
    """Requests by when they were sent, on the run's clock."""
    kill = killed_at - run.started_at
    groups: dict[str, list[RequestRecord]] = {
        "ended before the kill": [],
        "in flight at the kill": [],
        f"sent in the next {AT_ONCE_S:g} s": [],
        "sent later": [],
    }
    ended, flying, soon, later = groups.values()
    for record in run.records:
        if record.intended_s < kill:
            (flying if record.ended_s >= kill else ended).append(record)
        else:
            (soon if record.intended_s < kill + AT_ONCE_S else later).append(record)
    return [_row(name, records) for name, records in groups.items()]


def _row(name: str, records: Sequence[RequestRecord]) -> tuple[object, ...]:
    outcomes: Counter[str] = Counter(record.outcome for record in records)
    served, shed = outcomes.pop("ok", 0), outcomes.pop(REFUSED, 0)
    return name, len(records), served, shed, sum(outcomes.values())


def _percent(row: tuple[object, ...]) -> float:
    return 100 * int(str(row[2])) / max(int(str(row[1])), 1)


if __name__ == "__main__":
    exit_by_bars(main)
