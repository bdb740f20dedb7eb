"""Whether `forebay load` tells the truth: its records against the mock's own account.

Two parts. In the first, 500 requests/s of 100 tokens, first tokens and gaps lognormal: how far each
TTFT and each end lies from when the mock wrote that token. In the second, the server stands still
for 2 s in mid-run: the p99 that is reported, the true one, and beside them what a closed loop says
of the same server, whose clients ask nothing while they wait.

Run as: python benchmarks/load_truth.py [--rate 500] [--tokens 100] [--seconds 20]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client import lag_p99_ms
from forebay.load.run import LoadRun
from forebay.measure import RequestRecord, percentile
from forebay.measure.percentiles import percentiles
from forebay.spec.workload import fixed_workload
from forebay.workload import OpenLoop
from mock_peer import MockPeer, matched, play, running_mock
from tables import Bar, exit_by_bars, print_bars, print_table, write

TTFT, ITL = "lognormal:200ms/800ms", "lognormal:10ms/40ms"
P50_MS, P99_MS = 1.0, 3.0
PROMPT = 100

STALL_RATE, STALL_TOKENS, STALL_SECONDS = 200.0, 20, 20.0
STALL_TTFT_S, STALL_ITL_S = 0.050, 0.005
STALL = "stall from 9s for 2s"

Pairs = Sequence[tuple[RequestRecord, dict[str, Any]]]
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500.0, help="requests/s")
    parser.add_argument("--tokens", type=int, default=100, help="of each answer")
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    steady, bars = ordinary(options.rate, options.tokens, options.seconds)
    stalled, stall_bar = in_a_stall()
    bars.append(stall_bar)
    print_bars(bars)
    write(
        "load_truth",
        {"steady": steady, "stalled": stalled, "bars": [bar.as_dict() for bar in bars]},
    )


def ordinary(rate: float, tokens: int, seconds: float) -> tuple[dict[str, Any], list[Bar]]:
    """The first part: figures, and its bars."""
    spec = fixed_workload("truth", PROMPT, tokens, stages=[(rate, seconds)], seed=1)
    with running_mock("truth", ttft=TTFT, itl=ITL) as mock:
        run = play(mock.url, spec)
    pairs = whole(run, mock)
    errors = {
        "TTFT": ttft_errors(run, pairs),
        "last token": last_token_errors(run, pairs),
        "every token": token_errors(run, pairs),
    }
    print(f"\n{rate:g} requests/s x {tokens} tokens for {seconds:g} s, TTFT {TTFT}, ITL {ITL}")
    rows = [(name, len(e), *spread_ms(e)) for name, e in errors.items()]
    print_table(("client's time - mock's", "of", "p50 ms", "p99 ms", "most ms"), rows)
    facts = peers(run, mock)
    facts["unmatched"] = len(run.records) - len(pairs)
    facts["errors_ms"] = {name: spread_ms(e) for name, e in errors.items()}
    bars = [
        bar
        for name in ("TTFT", "last token")
        for bar in (
            Bar(f"error of {name}, p50", spread_ms(errors[name])[0], P50_MS, "ms"),
            Bar(f"error of {name}, p99", spread_ms(errors[name])[1], P99_MS, "ms"),
        )
    ]
    bars.append(Bar("requests that one side has not, or not whole", facts["unmatched"], 0))
    return facts, bars


def whole(run: LoadRun, mock: MockPeer) -> Pairs:
    """Answered records with the mock's entry of as many events; the others cannot be compared."""
    return [
        (record, entry)
        for record, entry in matched(run, mock.requests())
        if record.outcome == "ok" and len(record.token_times or ()) == len(entry["written"])
    ]


def ttft_errors(run: LoadRun, pairs: Pairs) -> Floats:
    """|reported - true| TTFT, seconds; the true one counts from the schedule's own time."""
    due = due_times(run)
    true = [entry["written"][0] - run.origin_s - due[record.session] for record, entry in pairs]
    return distances([record.ttft or 0.0 for record, _ in pairs], true)


def last_token_errors(run: LoadRun, pairs: Pairs) -> Floats:
    """|client's - mock's| time of the last token, seconds."""
    mine = [run.origin_s + (record.last_token_s or 0.0) for record, _ in pairs]
    return distances(mine, [entry["written"][-1] for _, entry in pairs])


def token_errors(run: LoadRun, pairs: Pairs) -> Floats:
    """The same for every token."""
    mine = np.concatenate([np.asarray(record.token_times) for record, _ in pairs])
    written = np.concatenate([np.asarray(entry["written"]) for _, entry in pairs])
    return distances(run.origin_s + mine, written)


def distances(mine: Sequence[float] | Floats, true: Sequence[float] | Floats) -> Floats:
    """|mine - true|, seconds."""
    apart: Floats = np.abs(np.asarray(mine) - np.asarray(true))
    return apart


def due_times(run: LoadRun) -> list[float]:
    """When each session is due, seconds from the start, as the workload alone says it."""
    workload = run.workload.make()
    assert isinstance(workload, OpenLoop)
    return [session.at_s or 0.0 for session in workload.schedule()]


def spread_ms(errors: Floats) -> list[float | None]:
    """p50, p99 and maximum in milliseconds."""
    return [None if e is None else e * 1e3 for e in percentiles(errors.tolist(), (50, 99, 100))]


def peers(run: LoadRun, mock: MockPeer) -> dict[str, Any]:
    """Prints and returns how client and mock fared themselves."""
    late = [1e3 * float(mock.summary[f"late_{name}_s"]) for name in ("p50", "p99", "max")]
    rows = [
        ("mock: written after due", *late, f"{mock.cpu_share:.0%} of a core"),
        ("client: sent after intended", *lags_ms(run), f"{run.client.cpu_share:.0%} of a core"),
    ]
    print_table(("", "p50 ms", "p99 ms", "most ms", "busy"), rows)
    print(f"\n{run.validity}; real-time: client {run.client.realtime}, "
          f"mock {mock.summary['realtime']}")  # fmt: skip
    return {
        "requests": len(run.records),
        "mock_late_ms": late,
        "client_lag_ms": lags_ms(run),
        "client_cpu_share": run.client.cpu_share,
        "mock_cpu_share": mock.cpu_share,
        "valid": run.validity.valid,
    }


def lags_ms(run: LoadRun) -> list[float]:
    """The client's own lateness: p50, p99, maximum."""
    lags = (run.client.lag_p50_s, run.client.lag_p99_s, run.client.lag_max_s)
    return [1e3 * (lag or 0.0) for lag in lags]


def in_a_stall() -> tuple[dict[str, Any], Bar]:
    """The second part: figures, and its bar."""
    law = {"ttft": f"{STALL_TTFT_S}s", "itl": f"{STALL_ITL_S}s", "faults": [STALL]}
    workload = partial(fixed_workload, "stall", PROMPT, STALL_TOKENS, seed=2)
    with running_mock("stall-open", **law) as mock:
        run = play(mock.url, workload(stages=[(STALL_RATE, STALL_SECONDS)]))
    due, pairs = due_times(run), whole(run, mock)
    true = percentile((e["written"][0] - run.origin_s - due[r.session] for r, e in pairs), 99)
    # As many clients as carry the same rate while the server does not stand still.
    clients = round(STALL_RATE * (STALL_TTFT_S + (STALL_TOKENS - 1) * STALL_ITL_S))
    with running_mock("stall-closed", **law) as closed_mock:
        closed = play(closed_mock.url, workload(clients=clients, seconds=STALL_SECONDS))
    figures: dict[str, float | None] = {
        "true, from the schedule's times": true,
        "reported by forebay load": run.summary.ttft_p99,
        f"a closed loop of {clients} clients, from its sends": closed.summary.ttft_p99,
    }
    print(f"\n{STALL_RATE:g} requests/s x {STALL_TOKENS} tokens; {STALL}")
    rows = [(name, None if s is None else 1e3 * s) for name, s in figures.items()]
    print_table(("TTFT p99", "ms"), rows)
    print(f"\nclosed loop: {len(closed.counted)} requests, open loop: {len(run.records)}; "
          f"client lag p99 {lag_p99_ms(run):.2f} ms; whole: {len(pairs)}")  # fmt: skip
    error = None if true is None else 1e3 * abs((run.summary.ttft_p99 or 0.0) - true)
    bar = Bar("error of the p99 over a stall of 2 s", error, P99_MS, "ms")
    return {"ttft_p99_s": figures, "requests": len(run.records), "whole": len(pairs)}, bar


if __name__ == "__main__":
    exit_by_bars(main)
