"""How fast one process of `forebay load` is on one core, and how punctual beside a busy server.

Two parts, each on two cores:

- paced: streams whose tokens arrive one by one, from the mock on the other core, at rising rates.
- beside: 60 requests/s x 48 tokens to vLLM's own server as anybody starts it: its engine core and
  its worker spin on a core each, and with long prompts it is far past what it sustains.

Other generators at the same tasks: docs/decisions/0040-finished-studies.md.

Run as: python benchmarks/load_speed.py [--parts paced,beside]
"""

from __future__ import annotations

import argparse
import os
from typing import Any

import psutil

import systems
from client import LONG_PROMPTS, SHORT, Workload, lag_p99_ms, load, settle
from forebay.load.run import LoadRun
from forebay.measure.percentiles import percentiles
from forebay.spec.workload import fixed_workload
from mock_peer import MockPeer, play, running_mock
from tables import Bar, exit_by_bars, print_bars, print_table, write

PROMPT = 100
STREAM_TOKENS, STREAM_TTFT, STREAM_ITL = 100, "100ms", "10ms"
STREAM_RATES = (300.0, 400.0, 450.0, 500.0, 550.0, 600.0, 700.0)  # requests/s
STREAM_S, STREAM_SETTLED_S = 10.0, 2.0
PACED_PER_S, PACED_LAG_MS = 50_000.0, 2.0

BESIDE_PER_S, BESIDE_S, BESIDE_LAG_MS = 60.0, 10.0, 5.0
PORT = 8000

Part = tuple[dict[str, Any], list[Bar]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="paced,beside")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    bars: list[Bar] = []
    parts = {"paced": paced, "beside": beside}
    for part in options.parts.split(","):
        figures, asked = parts[part]()
        found[part] = figures
        bars += asked
    print_bars(bars)
    write("load_speed", {**found, "bars": [bar.as_dict() for bar in bars]})


# Paced streams


def paced() -> Part:
    """Tokens/s at rising rates; the highest at which the client was on time and lost nothing."""
    rows = [paced_run(rate) for rate in STREAM_RATES]
    print(f"\nstreams of {STREAM_TOKENS} tokens, one every {STREAM_ITL}, from the mock on a core "
          "of its own")  # fmt: skip
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    on_time = [r for r in rows if r["client lag p99 ms"] <= PACED_LAG_MS and not r["wrong"]]
    best = max((row["tokens/s"] for row in on_time), default=None)
    name = f"paced streams, tokens/s with client lag p99 <= {PACED_LAG_MS:g} ms"
    return {"runs": rows}, [Bar(name, best, PACED_PER_S, at_least=True)]


def paced_run(rate: float) -> dict[str, Any]:
    spec = fixed_workload("paced", PROMPT, STREAM_TOKENS, stages=[(rate, STREAM_S)], seed=3)
    with running_mock("paced", ttft=STREAM_TTFT, itl=STREAM_ITL, log=None) as mock:
        run = play(mock.url, spec)
    return {"requests/s": rate, "tokens/s": settled_tokens_per_s(run), **both_ends(run, mock)}


def settled_tokens_per_s(run: LoadRun) -> float:
    """Tokens that arrived per second between the ramp's end and the last send."""
    arrived = sum(
        STREAM_SETTLED_S <= at < STREAM_S
        for record in run.records
        for at in record.token_times or ()
    )
    return arrived / (STREAM_S - STREAM_SETTLED_S)


def both_ends(run: LoadRun, mock: MockPeer) -> dict[str, Any]:
    """How client and mock fared; wrong is any record without every token."""
    tokens = sum(record.tokens_out for record in run.records)
    return {
        "client lag p99 ms": round(lag_p99_ms(run), 3),
        "client busy": f"{run.client.cpu_share:.0%}",
        "client us/token": round(1e6 * run.client.cpu_s / max(1, tokens), 2),
        "mock late p99 ms": round(1e3 * float(mock.summary["late_p99_s"] or 0.0), 3),
        "mock busy": f"{mock.cpu_share:.0%}",
        "wrong": sum(len(r.token_times or ()) != STREAM_TOKENS for r in run.records),
        "valid": run.validity.valid,
    }


# Beside a server that is busy


def beside() -> Part:
    """The client's lag, with vLLM on the same cores."""
    rows = []
    all_cores = len(os.sched_getaffinity(0))
    command = systems.raw_vllm(PORT, own_process=True)
    with systems.running("beside", command, PORT, model_cores=all_cores) as server:
        for workload in (SHORT, LONG_PROMPTS):
            settle(server.url)
            rows.append(beside_busy(server.url, workload))
    print(f"\n{BESIDE_PER_S:g} requests/s x {SHORT.output_tokens} tokens for {BESIDE_S:g} s, vLLM "
          "on the same cores; busy: share of all cores in those seconds")  # fmt: skip
    print_table(list(rows[0]), [tuple(row.values()) for row in rows])
    bars = [
        Bar(f"beside vLLM, {row['workload']}: lag p99", row["lag p99 ms"], BESIDE_LAG_MS, "ms")
        for row in rows
    ]
    return {"runs": rows}, bars


def beside_busy(url: str, workload: Workload) -> dict[str, Any]:
    psutil.cpu_percent()
    run = load(
        url, workload, stages=[(BESIDE_PER_S, BESIDE_S)], seed=4, timeout_s=120, anywhere=True
    )
    lags = [record.client_lag for record in run.records]
    ttfts = [record.ttft for record in run.records if record.ttft is not None]
    p50, p99, most = (None if s is None else 1e3 * s for s in percentiles(lags, (50, 99, 100)))
    first = (None if s is None else round(s, 3) for s in percentiles(ttfts, (50, 99)))
    return {
        "workload": f"{workload.name}, {workload.prompt_tokens} in",
        "requests": len(lags),
        "lag p50 ms": p50,
        "lag p99 ms": p99,
        "lag max ms": most,
        **dict(zip(("TTFT p50 s", "TTFT p99 s"), first, strict=True)),
        "busy %": psutil.cpu_percent(),
    }


if __name__ == "__main__":
    exit_by_bars(main)
