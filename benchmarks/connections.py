"""Two thousand connections at once, most of which misbehave: the counts balance, nothing leaks.

A thousand idle keep-alive connections, 300 slow readers of streams, 300 clients that vanish in the
middle of one (RST), 200 with bodies that never end, and 200 whose streams must be whole to the
token. All of them belong to one tenant, so that what a request was charged in the end (the ledger's
count, ticket by ticket) can be held against what the engine's steps made (the tap's count).

Run as: python benchmarks/connections.py [--seconds 90] [--file examples/emulated-fleet.yaml]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

import systems
from client import settle
from connections_clients import (
    Client,
    Target,
    half,
    keep_alive,
    slow,
    surviving,
    vanishing,
    whole,
)
from forebay.spec.tenants import key_hash, new_key
from tables import Bar, exit_by_bars, print_bars, print_table, write

PORT = 8000
CROWD: tuple[tuple[str, Client, int], ...] = (
    ("keep-alive", keep_alive, 1000),
    ("slow", slow, 300),
    ("vanish", vanishing, 300),
    ("half", half, 200),
    ("whole", whole, 200),
)
RAMP_S = 20.0  # over which they come: 1,000 small requests take the demo's engine ten seconds
QUIET_S = 30.0  # at most, until everything has ended
MEMORY_MB = 500.0
DESCRIPTORS = 16  # left: HAProxy keeps a connection or two to each replica for the next request
KEY = new_key()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=systems.DEMO)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--share", type=float, default=1.0, help="of the connections")
    options = parser.parse_args()
    allow_descriptors(round(1.2 * options.share * sum(n for *_, n in CROWD)) + 200)
    with tempfile.TemporaryDirectory() as folder:
        file = with_a_tenant(options.file, Path(folder))
        model_cores = None if options.file == systems.DEMO else 1
        command = systems.forebay(PORT, file)
        with systems.running("connections", command, PORT, model_cores=model_cores) as server:
            settle(server.url, headers={"authorization": f"Bearer {KEY}"})
            print(f"ready after {server.notes['ready_s']} s", flush=True)
            found = measure(server, options.seconds, options.share)
    report(found, options.share)


def allow_descriptors(needed: int) -> None:
    """Raise the limit of open files as far as this user may.

    Raises:
        RuntimeError: that is not far enough.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), hard))
    if hard < needed:
        raise RuntimeError(f"{needed} connections need more open files than this user may: {hard}")


def with_a_tenant(file: Path, folder: Path) -> Path:
    """The same service with one tenant."""
    spec = yaml.safe_load(file.read_text())
    (folder / "tenants.yaml").write_text(
        yaml.safe_dump({"tenants": [{"name": "crowd", "key_hashes": [key_hash(KEY)]}]})
    )
    copy = folder / "service.yaml"
    copy.write_text(yaml.safe_dump({**spec, "tenants": "tenants.yaml"}))
    return copy


def measure(server: systems.Server, seconds: float, share: float) -> dict[str, Any]:
    before, handles = counted(server), descriptors(server)
    with watching(server) as peak:
        target = asyncio.run(crowd(model_of(server), seconds, share))
    print(f"clients gone, {target.most_open} connections at most", flush=True)
    after, waited_s = quiet(server, handles)
    return {
        "connections": target.most_open,
        "clients": dict(sorted(target.tally.items())),
        "tokens_read_whole": target.tokens_read,
        "counts": {name: after[name] - before[name] for name in after if name not in NOW},
        "now": {name: after[name] for name in NOW},
        "finished_in_all": after["finished"],
        "outcomes": outcomes(server),
        "proxy_mb": peak["haproxy"] / 1e6,
        "descriptors": {"before": handles, "after": descriptors(server)},
        "quiet_after_s": waited_s,
    }


def model_of(server: systems.Server) -> str:
    with urllib.request.urlopen(asked(f"{server.url}/v1/models"), timeout=10) as answer:
        return str(json.load(answer)["data"][0]["id"])


async def crowd(model: str, seconds: float, share: float) -> Target:
    """Let all clients come, and go on until the end."""
    loop = asyncio.get_running_loop()
    target = Target(("127.0.0.1", PORT), model, KEY, loop.time() + seconds)
    clients = [(name, make) for name, make, count in CROWD for _ in range(round(share * count))]
    random.Random(0).shuffle(clients)  # all kinds come all the time
    tasks = []
    for name, make in clients:
        tasks.append(loop.create_task(surviving(make, name, target)))
        await asyncio.sleep(RAMP_S * min(1.0, seconds / 60) / len(clients))
    await asyncio.gather(*tasks)
    return target


def asked(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"authorization": f"Bearer {KEY}"})


NOW = ("running", "queued")


def counted(server: systems.Server) -> dict[str, float]:
    """Counts of all replicas together, a moment after the last change."""
    time.sleep(1.5)  # publications are up to a second old
    with urllib.request.urlopen(asked(f"{server.url}/forebay/status"), timeout=15) as answer:
        status = json.load(answer)
    classes = status["classes"].values()
    replicas = status["replicas"]
    return {
        **{name: sum(one[name] for one in classes) for name in ("offered", "admitted", "finished")},
        "shed": sum(sum(one["shed"].values()) for one in classes),
        "prompt_tokens": sum(one["prompt_tokens"] for one in replicas),
        "output_tokens": sum(one["output_tokens"] for one in replicas),
        "charged_tokens": status["tenants"].get("crowd", {"tokens": 0.0})["tokens"],
        **{name: sum(one[name] for one in classes) for name in NOW},
    }


def quiet(server: systems.Server, handles: dict[str, int]) -> tuple[dict[str, float], float]:
    """Counts once nothing runs and connections are closed, or after long enough; seconds waited."""
    since = time.monotonic()
    while True:
        found = counted(server)
        open_now = descriptors(server)
        ended = found["running"] + found["queued"] == 0
        closed = all(open_now[name] <= handles[name] + DESCRIPTORS for name in handles)
        if (ended and closed) or time.monotonic() > since + QUIET_S:
            return found, time.monotonic() - since


def descriptors(server: systems.Server) -> dict[str, int]:
    """Open files of the proxy's and the replicas' processes."""
    found = {"haproxy": 0, "replicas": 0}
    for kind, process in front(server):
        found[kind] += process.num_fds()
    return found


def front(server: systems.Server) -> Iterator[tuple[str, psutil.Process]]:
    for process in server.processes():
        try:
            title = (process.cmdline() or [""])[0]
            if process.name() == "haproxy":
                yield "haproxy", process
            elif title.startswith("ray::ServeReplica") and "Ingress" not in title:
                yield "replicas", process
        except psutil.NoSuchProcess:
            continue


@contextmanager
def watching(server: systems.Server) -> Iterator[dict[str, int]]:
    """The most memory that the proxy's processes had at once, in bytes."""
    peak, stop = {"haproxy": 0}, threading.Event()
    proxies = [process for kind, process in front(server) if kind == "haproxy"]

    def watch() -> None:
        while not stop.wait(0.25):
            size = sum(process.memory_info().rss for process in proxies if process.is_running())
            peak["haproxy"] = max(peak["haproxy"], size)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def outcomes(server: systems.Server) -> dict[str, float]:
    """Finished requests by outcome, as Prometheus sees them (Ray reports every 5 s)."""
    time.sleep(6.0)
    port = systems.spec().server.metrics_port
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        if line.startswith("ray_forebay_requests_finished"):
            name = line.partition('outcome="')[2].partition('"')[0]
            found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found


def not_whole(clients: dict[str, int]) -> int:
    """Streams of those who read to the end that were cut, hung or short of tokens."""
    named = {name.removeprefix("whole: "): n for name, n in clients.items() if "whole: " in name}
    return sum(n for name, n in named.items() if name != "as asked" and not name.isdigit())


def report(found: dict[str, Any], share: float) -> None:
    print_table(("client: what happened", "times"), list(found["clients"].items()))
    print_table(("count", "grew by"), [*found["counts"].items(), *found["now"].items()])
    print(f"\nfinished by outcome, since the start: {found['outcomes']}")
    print(f"descriptors {found['descriptors']}; quiet after {found['quiet_after_s']:.0f} s")
    counts, files, clients = found["counts"], found["descriptors"], found["clients"]
    left = {name: files["after"][name] - files["before"][name] for name in files["before"]}
    used = counts["prompt_tokens"] + counts["output_tokens"]
    asked_for = share * sum(n for *_, n in CROWD)
    bars = [
        Bar("connections at once", found["connections"], asked_for, at_least=True),
        Bar("offered less admitted and shed",
            abs(counts["offered"] - counts["admitted"] - counts["shed"]), 0),
        Bar("admitted less finished", abs(counts["admitted"] - counts["finished"]), 0),
        Bar("finished less the sum of outcomes",
            abs(found["finished_in_all"] - sum(found["outcomes"].values())), 0),
        Bar("tokens charged less tokens that the engine took up and made",
            abs(counts["charged_tokens"] - used), 0),
        Bar("sequences left in the engine", sum(found["now"].values()), 0),
        Bar("streams that ended and were not whole, or did not end", not_whole(clients), 0),
        Bar("streams read whole", clients.get("whole: as asked", 0), share * CROWD[-1][2],
            at_least=True),
        Bar("HAProxy's memory, at most", found["proxy_mb"] or None, MEMORY_MB, "MB"),
        *[Bar(f"descriptors left, {name}", number, DESCRIPTORS) for name, number in left.items()],
    ]  # fmt: skip
    print_bars(bars)
    write("connections", {**found, "bars": [bar.as_dict() for bar in bars]})


if __name__ == "__main__":
    exit_by_bars(main)
