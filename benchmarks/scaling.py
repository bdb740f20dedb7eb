"""Token-aware autoscaling on real Ray Serve, with emulated engines (see `scaling_fleet.py`).

Parts, each with its bar:
  shed-burst  everything is shed by a bound of one token; the fleet grows all the same
  tokens      equal requests/s, ten times the tokens: replicas in proportion, and sums for a mix
  floor       three scheduled floors, each met before its window
  slow-nodes  replicas that take 90 s: no more than one too many is asked for
  drain       1 to 4 to 1, twice, with long streams and kept connections: nothing fails
  restart     Serve's controller killed while the fleet grows, and while it is busy
  zero        from zero by a client that obeys Retry-After

With `--kill-controller`, Serve's controller is killed in the middle of `shed-burst` and `tokens`,
once the fleet has begun to grow.

Run as: python benchmarks/scaling.py PART [PART ...] [--kill-controller]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

from client import lag_p99_ms
from forebay.load.run import LoadRun
from forebay.spec.workload import WorkloadSpec, fixed_workload
from scaling_drain import drain
from scaling_faults import ControllerKilled, restart, zero
from scaling_fleet import (
    STORY,
    Look,
    Watch,
    replicas_of,
    running,
    service,
    status,
    story,
    with_headroom,
)
from tables import Bar, exit_by_bars, print_bars, print_table, write

PROMPT, ANSWER = 1000, 100
# Requests of the burst and of the two workloads: many and small, since chance is that of the slowed
# fleet, of which one request stands for twenty.
MANY_PROMPT, MANY_ANSWER = 500, 50
BURST_RATE, BURST_S = 8.0, 90.0
LEAST_SHED = 90.0  # percent; an idle engine takes one request whatever the bound
TOKENS_RATE, TOKENS_S, SETTLED_S = 8.0, 75.0, 40.0
WINDOWS, WINDOW_S, BETWEEN_S = 3, 20, 105.0
FIRST_S = 100.0  # from serving to the first window
SLOW_START_S, SLOW_RATE, SLOW_S = 90.0, 2.5, 220.0

Rows = list[Bar]


def shed_burst(*, kill: bool = False) -> Rows:
    """Bar 2: a burst that a tight bound sheds whole; `kill` the controller in it."""
    spec = service(
        admission={"max_queued_tokens": 1},
        scaling={"min": 1, "max": 8, "cold_start": "25s"},
    )
    needed = with_headroom(replicas_of(BURST_RATE, MANY_PROMPT, MANY_ANSWER), 0.0)
    with running(spec) as fleet:
        began = time.time()
        killed = ControllerKilled(fleet.server, fleet.watch, BURST_S) if kill else None
        run = fleet.load(
            fixed_workload(
                "burst", MANY_PROMPT, MANY_ANSWER, stages=[(BURST_RATE, BURST_S)], seed=1
            )
        )
        burst_at = run.started_at  # its processes take a second or two to start
        enough = [look.at - burst_at for look in fleet.watch.since(began) if look.ready >= needed]
        cold_s = status(fleet.server.url)["scaling"][-1]["cold_start"]["mean_s"]
        print_table(STORY, story(fleet.watch, burst_at))
        shed = run.summary.shed / run.summary.offered
        print(
            f"\n{run.summary.offered} requests, {100 * shed:.1f} % shed; {needed} replicas needed; "
            f"cold start as measured {cold_s:.1f} s; {_client(run)}"
        )
        late = enough[0] - cold_s if enough else None
        return [
            Bar("shed", 100 * shed, LEAST_SHED, "%", at_least=True),
            Bar("enough replicas, after burst + cold start", late, 10.0, "s"),
            *(killed.bars(began + BURST_S) if killed else []),
            fleet.watch.validity(),
        ]


def tokens(*, kill: bool = False) -> Rows:
    """Bar 3: replicas by tokens, not by requests; `kill` the controller while large ones come."""
    spec = service(scaling={"min": 1, "max": 8, "cold_start": "25s", "stable": "20s"})
    small, large = (MANY_PROMPT // 10, MANY_ANSWER // 10), (MANY_PROMPT, MANY_ANSWER)
    work, rows, bars = {}, [], list[Bar]()
    with running(spec) as fleet:
        for name, kinds in (("small", [small]), ("large", [large]), ("both", [small, large])):
            began = time.time()
            killed = (
                ControllerKilled(fleet.server, fleet.watch, TOKENS_S)
                if kill and name == "large"
                else None
            )
            run = fleet.load(_mixed(name, kinds))
            end = run.started_at + TOKENS_S  # of what is asked: its last answers take longer
            looks = [look for look in fleet.watch.since(end - SETTLED_S) if look.at < end]
            work[name] = fmean(_work(look) for look in looks)
            ready = max(look.ready for look in looks)
            by_profile = sum(replicas_of(TOKENS_RATE, *kind) for kind in kinds)
            bars += killed.bars(began + TOKENS_S) if killed else []
            rows.append(
                (name, TOKENS_RATE * len(kinds), round(work[name], 3), round(by_profile, 3),
                 with_headroom(work[name]), ready, run.summary.shed, run.summary.failed)
            )  # fmt: skip
        print_table(
            ("workload", "requests/s", "replicas' work", "by the profile", "whole, with headroom",
             "ready", "shed", "failed"), rows,
        )  # fmt: skip
        tenfold = work["large"] / work["small"] / 10.0 - 1.0
        added = work["both"] / (work["small"] + work["large"]) - 1.0
        return [
            Bar("10 x the tokens, off by", 100 * abs(tenfold), 15.0, "%"),
            Bar("the mix against the sum, off by", 100 * abs(added), 15.0, "%"),
            *bars,
            fleet.watch.validity(),
        ]


def floor() -> Rows:
    """Bar 4, first half: scheduled floors are met before their windows."""
    first = datetime.now(UTC) + timedelta(seconds=FIRST_S)
    starts = [first + timedelta(seconds=BETWEEN_S * number) for number in range(WINDOWS)]
    schedule = [
        {"min": 3, "from": at.isoformat(), "until": (at + timedelta(seconds=WINDOW_S)).isoformat()}
        for at in starts
    ]
    scaling = {"min": 1, "max": 4, "cold_start": "35s", "stable": "10s", "drain": "5s"}
    with running(service(scaling={**scaling, "schedule": schedule})) as fleet:
        began, rows = time.time(), []
        for at in starts:
            time.sleep(max(at.timestamp() + 1.0 - time.time(), 0.0))
            rows.append(_window(fleet.watch, at.timestamp(), began))
            fleet.watch.until(lambda look: look.ready == 1, BETWEEN_S)
        print_table(("window at", "asked for, s before", "all ready, s before", "met"), rows)
        print_table(STORY, story(fleet.watch, began))
        met = sum(bool(row[-1]) for row in rows)
        return [Bar("windows met", met, WINDOWS, at_least=True), fleet.watch.validity()]


def _window(watch: Watch, at: float, began: float) -> tuple[object, ...]:
    """When its replicas were asked for and ready."""
    before = [look for look in watch.looks if look.at < at]
    not_yet = [look.at for look in before if look.ready < 3]
    ready_at = min(
        (look.at for look in before if look.at > max(not_yet, default=0.0)), default=None
    )
    asked = [one["at"] for one in watch.changes() if one["target"] == 3 and one["at"] < at]
    return (
        round(at - began, 1),
        round(at - asked[-1], 1) if asked else None,
        round(at - ready_at, 1) if ready_at is not None else None,
        ready_at is not None,
    )


def slow_nodes() -> Rows:
    """Bar 4, second half: waiting for slow replicas asks for no more of them."""
    spec = service(SLOW_START_S, scaling={"min": 1, "max": 8, "cold_start": "100s"})
    needed = with_headroom(replicas_of(SLOW_RATE, PROMPT, ANSWER))
    with running(spec) as fleet:
        began = time.time()
        run = fleet.load(_fixed("step", [(SLOW_RATE, SLOW_S)]))
        print_table(STORY, story(fleet.watch, began))
        most = max(one["target"] for one in fleet.watch.changes())
        print(f"\n{needed} replicas needed with headroom, {most} asked for; {_client(run)}")
        return [
            Bar("replicas asked for beyond the need", most - needed, 1.0),
            Bar("replicas asked for", most, needed, at_least=True),
            fleet.watch.validity(),
        ]


def _fixed(name: str, stages: Sequence[tuple[float, float]]) -> WorkloadSpec:
    return fixed_workload(name, PROMPT, ANSWER, stages=stages, seed=1)


def _mixed(name: str, kinds: Sequence[tuple[int, int]]) -> WorkloadSpec:
    """Each kind at the same rate, `TOKENS_RATE`, evenly spaced: equal means equal."""
    requests = [{"name": f"p{p}", "prompt": p, "output": answer} for p, answer in kinds]
    plain = fixed_workload(
        name,
        *kinds[0],
        stages=[(TOKENS_RATE * len(kinds), TOKENS_S)],
        seed=len(kinds),
        arrivals="constant",
    ).plain()
    return WorkloadSpec.model_validate({**plain, "requests": requests})


def _work(look: Look) -> float:
    wanted = None if look.decision is None else look.decision["wanted"]
    return 0.0 if wanted is None else float(wanted["level"])


def _client(run: LoadRun) -> str:
    verdict = "valid" if run.validity.valid else f"NOT valid: {run.validity}"
    return f"client lag p99 {lag_p99_ms(run):.1f} ms, {verdict}"


PARTS: dict[str, Callable[..., Rows]] = {
    "shed-burst": shed_burst,
    "tokens": tokens,
    "floor": floor,
    "slow-nodes": slow_nodes,
    "drain": drain,
    "restart": restart,
    "zero": zero,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--kill-controller", action="store_true", help="of shed-burst, tokens")
    options = parser.parse_args()
    for part in options.parts:
        print(f"\n## {part}", flush=True)
        kill = options.kill_controller and part in ("shed-burst", "tokens")
        bars = PARTS[part](kill=True) if kill else PARTS[part]()
        print_bars(bars)
        found: dict[str, Any] = {"bars": [bar.as_dict() for bar in bars]}
        write(f"scaling-{part}", found)


if __name__ == "__main__":
    exit_by_bars(main)
