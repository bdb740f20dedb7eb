"""What Forebay's own code costs: CPU per request in gate and router, per token in the tap.

In one process, without Ray, HTTP or an engine: the gate as `serving/app/replica_process.py` wires
it in front of an app that plays vLLM, and the router's app among eight replicas that publish. Each
request is timed by the thread's CPU clock; what the stand-in takes when it is called alone is taken
off. Meanwhile 64 answers run and 50 requests are queued. Tokens after an answer's first are not in
the request's figure: a step of 64 of them is timed by itself.

Run as: python benchmarks/own_cpu.py [--requests 1000] [--steps 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from forebay.serving.app import before_serve
from forebay.serving.http import App, Message, Scope
from forebay.serving.router import ingress
from own_cpu_world import FrontDoor, Output, Router, StandIn, chats, receiving, scope
from tables import Bar, exit_by_bars, print_bars, print_table, write

SIZES = (1_000, 4_000, 64_000)  # bytes of a chat's body
RUNNING, QUEUED = 64, 50
FEW, MANY = 10, 1_000  # queued, for the tap
MODES = {
    "open": {"tenants": False},
    "tenants": {"tenants": True},
    "the only replica": {"tenants": False, "alone": True},  # which has no router
}
REQUEST_MS = 0.3
GROWTH = 1.25  # of the tap's cost per token, from few to many queued: noise, if it is O(1)
TOP = 10
WARM = 100
REFUSED_S, ADMITTED_S = 1e-3, 3600.0
HERE = str(Path(__file__).resolve().parent)

Row = tuple[str, int, float, float]


async def main(requests: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = await gate_rows(folder, requests) + await router_rows(folder, requests)
        taps = [tap_row(folder, queued, steps) for queued in (FEW, MANY)]
        profiles = await profiled(folder, requests)
    print_table(("own code", "body, bytes", "CPU p50, ms", "p99, ms"), rows)
    print_table(("tap: queued meanwhile", "us per token, p50", "p99"), taps)
    for title, found in profiles.items():
        print(f"\n{title}, body of {SIZES[1]:,} bytes: own code with the C functions it calls")
        print_table(("function", "share", "calls per request"), found)
    bars = [
        Bar(f"{name}, {size:,} bytes: CPU p50", p50, REQUEST_MS, "ms")
        for name, size, p50, _ in rows
    ]
    growth = taps[1][1] / taps[0][1]
    bars.append(Bar(f"tap's cost per token, {MANY:,} queued over {FEW}", growth, GROWTH, "x"))
    print_bars(bars)
    write("own_cpu", {"rows": rows, "tap": taps, "bars": [bar.as_dict() for bar in bars]})


async def gate_rows(folder: Path, requests: int) -> list[Row]:
    rows = []
    for mode, settings in MODES.items():
        for promised_s in (ADMITTED_S, REFUSED_S):
            for size in SIZES:
                front = FrontDoor(folder, **settings, running=RUNNING, queued=QUEUED)
                front.promise(promised_s)
                alone = await cost_alone(front, size, requests, admitted=promised_s == ADMITTED_S)
                spent = await timed(front.gate, front.scope, chats(size), requests, front.tick)
                front.check(admitted=promised_s == ADMITTED_S)
                rows.append(row(gate_name(mode, promised_s), size, spent - alone))
    return rows


def gate_name(mode: str, promised_s: float) -> str:
    return f"gate, {mode}, {'admitted' if promised_s == ADMITTED_S else 'refused'}"


async def cost_alone(front: FrontDoor, size: int, requests: int, *, admitted: bool) -> float:
    """Seconds that the stand-in takes by itself; it is not called for what is refused."""
    if not admitted:
        return 0.0
    app = StandIn(None, front.clock)
    return float(np.median(await timed(app, front.scope, chats(size), requests, front.tick)))


async def router_rows(folder: Path, requests: int) -> list[Row]:
    rows = []
    for size in SIZES:
        app, router = routing_app(folder)
        spent = await timed(app, routed, chats(size), requests, router.publish_if_due)
        rows.append(row("router, 8 replicas", size, spent))
    return rows


def routing_app(folder: Path) -> tuple[App, Router]:
    front = FrontDoor(folder, tenants=False, running=RUNNING, queued=QUEUED)
    router = Router(front)
    ingress.attach(router)
    return before_serve.BeforeServe(front.gate), router


def routed(body: bytes) -> Scope:
    return scope("/internal/route", [(b"content-length", b"%d" % len(body))])


async def timed(
    app: App,
    scope_of: Callable[[bytes], Scope],
    bodies: Iterator[bytes],
    requests: int,
    between: Callable[[], None],
) -> Any:
    """CPU seconds of each request, after some that only warm up."""
    spent = []
    gc.collect()
    for _ in range(WARM + requests):
        body = next(bodies)
        asked, receive = scope_of(body), receiving(body)
        before = time.thread_time()
        await app(asked, receive, discard)
        spent.append(time.thread_time() - before)
        between()
        await asyncio.sleep(0)  # timers that were cancelled are dropped
    return np.array(spent[WARM:])


async def discard(_: Message) -> None:
    return


def row(name: str, size: int, seconds: Any) -> Row:
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return name, size, float(p50), float(p99)


def tap_row(folder: Path, queued: int, steps: int) -> tuple[int, float, float]:
    """(Queued, us per token at p50 and p99), of steps that give each running answer a token."""
    front = FrontDoor(folder, tenants=True, running=RUNNING, queued=queued)
    outputs = [Output(name, [7]) for name in front.running]
    spent = []
    gc.collect()
    for _ in range(WARM + steps):
        front.tick()
        before = time.thread_time()
        front.replica.tap.on_step(outputs, front.clock.now)
        spent.append(time.thread_time() - before)
    p50, p99 = np.percentile(np.array(spent[WARM:]) * 1e6 / len(outputs), (50, 99))
    return queued, float(p50), float(p99)


async def profiled(folder: Path, requests: int) -> dict[str, list[tuple[str, str, float]]]:
    """The functions that take most, by what is done."""
    found = {}
    for promised_s in (ADMITTED_S, REFUSED_S):
        front = FrontDoor(folder, tenants=True, running=RUNNING, queued=QUEUED)
        front.promise(promised_s)
        with cProfile.Profile() as profile:
            await timed(front.gate, front.scope, chats(SIZES[1]), requests, front.tick)
        found[gate_name("tenants", promised_s)] = top(profile, requests)
    app, router = routing_app(folder)
    with cProfile.Profile() as profile:
        await timed(app, routed, chats(SIZES[1]), requests, router.publish_if_due)
    found["router"] = top(profile, requests)
    return found


def top(profile: cProfile.Profile, requests: int) -> list[tuple[str, str, float]]:
    """Of our package: function, share of all it takes, calls; what a library does, its caller does.

    Of a C function only its own time counts for its caller: it may call back.
    """
    own: Counter[str] = Counter()
    calls: dict[str, int] = {}
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    for (file, line, name), (_, called, spent, _, callers) in table.items():
        if "/forebay/" in file:
            own[label(file, line, name)] += spent
            calls[label(file, line, name)] = called
        elif not file.startswith(HERE):
            for caller, (_, _, inside, in_all) in callers.items():
                if "/forebay/" in caller[0]:
                    own[label(*caller)] += inside if file == "~" else in_all
    return [
        (key, f"{100 * spent / own.total():.1f} %", round(calls[key] / (WARM + requests), 1))
        for key, spent in own.most_common(TOP)
    ]


def label(file: str, line: int, name: str) -> str:
    return f"{file.rpartition('/forebay/')[2]}:{line} {name}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    exit_by_bars(lambda: uvloop.run(main(options.requests, options.steps)))
