"""Whether what users are told comes true, and what disturbs leaves no trace: real vLLM.

- predictions: short requests at 0.5 to 3 x capacity; predicted beside actual TTFT, from
  `/forebay/status`.
- burst: 2 x for a minute, then 0.7 x; TTFT from 5 s after its end.
- giants: 0.6 x with and without a prompt fifty times as long every 10 s; TTFT of the others, of
  whom who is refused has an endless one. They are given a later deadline than the demo's. Asked is
  what one of them does to others. One takes 2.2 s of the demo's engine, so one every 4 s would be
  over half of it, and with the 0.6 of others more than there is: that is shown, and not judged.

Run as: python benchmarks/promises.py --capacity 89 [--parts predictions,burst,giants]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import systems
from client import SHORT, aborted, admitted_ttft, lag_p99_ms, played, settle, spare_cores
from forebay.load.plan import Endpoint
from forebay.load.run import LoadPlan, LoadRun
from forebay.measure import RECENT, RequestRecord, adjusted_percentile, percentile
from forebay.spec.workload import WorkloadSpec
from tables import Bar, exit_by_bars, print_bars, print_table, write

PORT = 8000
SLO_S = 1.0
FACTORS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)
LEVEL_S = 40.0  # or as long as it takes for more first tokens than the status looks back on
BURST_S, AFTER_S, RECOVERED_S = 60.0, 30.0, 5.0
GIANT_TIMES, GIANT_EVERY_S, GIANTS_S = 50, 10.0, 80.0
TOO_OFTEN_S = 4.0
GIANT_DEADLINE = "60s"  # or a slow machine refuses what could not meet its deadline even alone
MOST_ERROR, MOST_BIAS, MOST_DELAY, LEAST_GIANTS = 0.20, 0.10, 1.5, 0.9

Part = tuple[list[dict[str, Any]], list[Bar]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capacity", type=float, required=True, help="short requests/s")
    parser.add_argument("--parts", default="predictions,burst,giants")
    options = parser.parse_args()
    parts: dict[str, Callable[[str, float], Part]] = {
        "predictions": predictions,
        "burst": burst,
        "giants": giants,
    }
    rows: list[dict[str, Any]] = []
    bars: list[Bar] = []
    for name in options.parts.split(","):
        with serving(name) as server:
            found, asked = parts[name](server.url, options.capacity)
        print_table(list(found[0]), [tuple(row.values()) for row in found])
        rows += found
        bars += asked
    print_bars(bars)
    write("promises", {"capacity": options.capacity, "rows": rows,
                       "bars": [bar.as_dict() for bar in bars]})  # fmt: skip


@contextmanager
def serving(part: str) -> Iterator[systems.Server]:
    """The demo's service; for giants with a later deadline, so that they are computed."""
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        file = systems.DEMO
        if part == "giants":
            spec = yaml.safe_load(file.read_text())
            spec["admission"]["deadline"] = GIANT_DEADLINE
            file = Path(folder) / "demo.yaml"
            file.write_text(yaml.safe_dump(spec))
        with systems.running("promises", systems.forebay(PORT, file), PORT) as server:
            yield server


def predictions(url: str, best: float) -> Part:
    """Predicted and actual TTFT at several loads."""
    rows, bars = [], []
    for factor in FACTORS:
        answered = min(factor, 0.8) * best  # requests/s, or more
        run = play(url, [(factor * best, max(LEVEL_S, 1.1 * RECENT / answered))])
        replica = status(url)
        error, bias = replica["prediction_error"], replica["prediction_bias"]
        rows.append({"part": f"{factor:g} x", **row(run.records, run), "error": error,
                     "bias": bias})  # fmt: skip
        bars += [
            Bar(f"{factor:g} x: median relative error", error, MOST_ERROR),
            Bar(f"{factor:g} x: bias, absolute", abs(bias), MOST_BIAS),
        ]
    return rows, bars


def burst(url: str, best: float) -> Part:
    """A minute of 2 x, and what is left of it."""
    run = play(url, [(2.0 * best, BURST_S), (0.7 * best, AFTER_S)])
    during = [r for r in run.records if r.intended_s < BURST_S]
    after = [r for r in run.records if r.intended_s >= BURST_S + RECOVERED_S]
    rows = [
        {"part": "burst: during", **row(during, run)},
        {"part": "burst: after", **row(after, run)},
    ]
    bars = [
        Bar("burst: TTFT p99 in it", rows[0]["TTFT p99 s"], SLO_S, "s"),
        Bar(f"burst: TTFT p99 from {RECOVERED_S:g} s after", rows[1]["TTFT p99 s"], SLO_S, "s"),
        Bar("burst: failed or aborted", sum(row["failed"] for row in rows), 0),
        Bar("burst: refused from then on", rows[1]["shed"], 0),
    ]
    return rows, bars


def giants(url: str, best: float) -> Part:
    """Ordinary requests without and with prompts fifty times as long among them, twice."""
    rows, tails, of_giants = [], {False: 0.0, True: 0.0}, []
    # Mirrored, so that a pace of the machine which rises or falls all the while favours neither.
    for seed, order in ((1, (False, True)), (2, (True, False))):
        for with_giants in order:
            run = play(url, [(0.6 * best, GIANTS_S)], giants_too=with_giants, seed=seed)
            others = [r for r in run.records if r.prompt_tokens <= 2 * SHORT.prompt_tokens]
            name = "giants: others, beside" if with_giants else "giants: others, without"
            rows.append({"part": name, **row(others, run)})
            tails[with_giants] += rows[-1]["TTFT p99 s, refused: endless"]
            of_giants += [r for r in run.records if r.prompt_tokens > 2 * SHORT.prompt_tokens]
    rows.append({"part": "giants: themselves", **row(of_giants, run)})
    rows += too_many_giants(url, best)
    ratio = tails[True] / tails[False]
    served = sum(r.outcome == "ok" for r in of_giants) / len(of_giants)
    return rows, [
        Bar(f"giants: TTFT p99 of the others beside {GIANT_TIMES} x prompts, x", ratio, MOST_DELAY),
        Bar("giants: of them served themselves", served, LEAST_GIANTS, at_least=True),
    ]


def too_many_giants(url: str, best: float) -> list[dict[str, Any]]:
    """More of them than the engine can do beside the others."""
    run = play(url, [(0.6 * best, GIANTS_S)], giants_too=True, giant_every_s=TOO_OFTEN_S)
    few = [r for r in run.records if r.prompt_tokens <= 2 * SHORT.prompt_tokens]
    giant = [r for r in run.records if r.prompt_tokens > 2 * SHORT.prompt_tokens]
    name = f"one every {TOO_OFTEN_S:g} s"
    return [
        {"part": f"giants: others, beside {name}", **row(few, run)},
        {"part": f"giants: {name}, themselves", **row(giant, run)},
    ]


def play(
    url: str,
    stages: Sequence[tuple[float, float]],
    *,
    giants_too: bool = False,
    giant_every_s: float = GIANT_EVERY_S,
    seed: int = 5,
) -> LoadRun:
    """Short requests in stages of (requests/s, seconds); the giants on top."""
    settle(url)
    rate = stages[0][0]
    giant = 1 / giant_every_s if giants_too else 0.0
    kinds = [{"name": "short", "share": rate, **lengths(1)}]
    if giants_too:
        kinds.append({"name": "giant", "share": giant, **lengths(GIANT_TIMES)})
    spec = WorkloadSpec.model_validate(
        {
            "name": "promises",
            "requests": kinds,
            "stages": [{"hold": f"{level + giant}/s", "for": f"{s}s"} for level, s in stages],
            "seed": seed,
        }
    )
    return played(
        LoadPlan(
            endpoint=Endpoint(url=url, model=systems.MODEL),
            workload=spec,
            cores=spare_cores(),
        )
    )


def lengths(times: int) -> dict[str, int]:
    return {"prompt": times * SHORT.prompt_tokens, "output": SHORT.output_tokens}


def status(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/forebay/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)["replicas"][0]
    return found


def row(records: Sequence[RequestRecord], run: LoadRun) -> dict[str, Any]:
    """What became of some of a run's requests."""
    ttfts = [r.ttft for r in records if r.ttft is not None]
    return {
        "requests": len(records),
        "good": sum(r.is_good(SLO_S) for r in records),
        "shed": sum(r.outcome == "shed" for r in records),
        "aborted": aborted(records),
        "failed": sum(r.failure for r in records),
        "TTFT p50 s": percentile(ttfts, 50),
        "TTFT p99 s": admitted_ttft(records, 99),
        "TTFT p99 s, refused: endless": adjusted_percentile(ttfts, len(records) - len(ttfts), 99),
        "lag p99 ms": lag_p99_ms(run),
    }


if __name__ == "__main__":
    exit_by_bars(main)
