"""Whether a trace is replayed as it was recorded.

Five minutes of each trace at its own speed against the mock, held against the file record by
record: when each request was meant, how many prompt tokens the mock counted, how many tokens it was
asked for. The file is read here by other code than Forebay's.

With --vllm, also against the demo platform: the requests of the Mooncake trace that fit its
context, slowed so that two cores keep up. The share of prompt tokens that the engine found in its
prefix cache must be what a cache of its size can find in the requests that it took up
(`prefix_cache`).

Run as: python benchmarks/load_replay.py [--seconds 300] [--vllm] [--only-vllm]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import systems
from client import ROOT, lag_p99_ms, settle, spare_cores
from forebay.load.results import fetch
from forebay.load.run import LoadRun
from forebay.measure.percentiles import percentiles
from forebay.spec.service import demand, read_model_folder
from forebay.spec.workload import TraceSpec, WorkloadSpec
from mock_peer import play, request_id, running_mock
from prefix_cache import PrefixCache, blocks_of
from tables import Bar, exit_by_bars, print_bars, print_table, write

TRACES = ROOT.parent / "shared" / "traces"
FILES = {"azure": "azure_conv.csv", "mooncake": "moon_conv.jsonl.gz"}
CLOCK_MS = 0.001  # a float of seconds is exact to far less
PORT = 8000
METRICS = "http://127.0.0.1:8081/metrics"
PROMPT, CACHED = "ray_forebay_prompt_tokens", "ray_forebay_cached_prompt_tokens"
POINTS = 5.0
STILL_S, GIVE_UP_S = 40.0, 180.0  # Ray passes metrics on every 15 s here


@dataclass(frozen=True)
class Line:
    """One request of a file."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of each trace")
    parser.add_argument("--vllm", action="store_true", help="also the prefix cache of the demo")
    parser.add_argument("--only-vllm", action="store_true", help="nothing but that")
    parser.add_argument("--speed", type=float, default=0.5, help="of the trace, with --vllm")
    parser.add_argument("--vllm-seconds", type=float, default=300.0, help="of the run, with it")
    options = parser.parse_args()
    there = {name: TRACES / file for name, file in FILES.items() if (TRACES / file).is_file()}
    for name in sorted(set(FILES) - set(there)):
        print(f"{name}: skipped, there is no {TRACES / FILES[name]}")
    bars = [Bar(f"{name}: replayed", None, 1, at_least=True) for name in FILES if name not in there]
    rows, cache = [], None
    if not options.only_vllm:
        rows = [against_mock(name, path, options.seconds) for name, path in there.items()]
        print_replays(rows)
        bars += [bar for row in rows for bar in replay_bars(row)]
    if (options.vllm or options.only_vllm) and "mooncake" in there:
        cache = against_vllm(there["mooncake"], options.speed, options.vllm_seconds)
        bars.append(Bar("prefix cache: hit share off by", cache["off_points"], POINTS, "points"))
    print_bars(bars)
    write(
        "load_replay",
        {"replays": rows, "prefix_cache": cache, "bars": [bar.as_dict() for bar in bars]},
    )


def trace_workload(name: str, path: Path, **more: Any) -> WorkloadSpec:
    """A workload that replays the file."""
    trace = {"file": str(path), "format": name, **more}
    return WorkloadSpec.model_validate({"name": name, "trace": trace})


# Against the mock


def against_mock(name: str, path: Path, seconds: float) -> dict[str, Any]:
    """Replays the first seconds; in how many records file and run differ."""
    lines = [line for line in file_lines(name, path) if line.at_s < seconds]
    with running_mock(f"replay-{name}", ttft="100ms", itl="5ms", max_model_len=200_000) as mock:
        run = play(mock.url, trace_workload(name, path, **{"for": f"{seconds}s"}))
    return {"trace": name, "seconds": seconds, **compared(lines, run, mock.requests())}


def compared(lines: list[Line], run: LoadRun, entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """File, records and the mock's log side by side."""
    wrong_prompts = wrong_outputs = unserved = 0
    worst_s = 0.0
    for record in run.records:
        line, entry = lines[record.session], entries.get(request_id(run, record))
        worst_s = max(worst_s, abs(record.intended_s - line.at_s))
        if entry is None or record.outcome != "ok":
            unserved += 1
            continue
        wrong_prompts += not line.prompt_tokens == entry["prompt_tokens"] == record.prompt_tokens
        wrong_outputs += not line.output_tokens == entry["tokens"] == record.tokens_out
    return {
        "in_file": len(lines),
        "sent": len(run.records),
        "unserved": unserved,
        "wrong_prompts": wrong_prompts,
        "wrong_outputs": wrong_outputs,
        "intended_off_ms": 1e3 * worst_s,
        "lag_p99_ms": lag_p99_ms(run),
        "prompt_tokens": sum(line.prompt_tokens for line in lines),
        "longest_prompt": max(line.prompt_tokens for line in lines),
    }


def print_replays(rows: list[dict[str, Any]]) -> None:
    if rows:
        print_table(list(rows[0]), [tuple(row.values()) for row in rows])


def replay_bars(row: dict[str, Any]) -> list[Bar]:
    """What is asked of one replay."""
    name = row["trace"]
    differing = row["unserved"] + row["wrong_prompts"] + row["wrong_outputs"]
    return [
        Bar(f"{name}: requests missing", abs(row["in_file"] - row["sent"]), 0),
        Bar(f"{name}: records that differ", differing, 0),
        Bar(f"{name}: intended send off by, at most", row["intended_off_ms"], CLOCK_MS, "ms"),
    ]


def file_lines(name: str, path: Path) -> list[Line]:
    """The file's requests in order of time, from second 0."""
    lines = azure_lines(path) if name == "azure" else mooncake_lines(path)
    used = sorted(
        (line for line in lines if line.prompt_tokens and line.output_tokens),
        key=lambda line: line.at_s,
    )
    first = used[0].at_s
    return [Line(line.at_s - first, line.prompt_tokens, line.output_tokens) for line in used]


def azure_lines(path: Path) -> list[Line]:
    with path.open(encoding="utf-8-sig") as file:
        return [
            Line(azure_seconds(moment), int(prompt), int(output))
            for moment, prompt, output in list(csv.reader(file))[1:]
        ]


def azure_seconds(moment: str) -> float:
    """Seconds since the day's start; a stamp has seven digits behind the point."""
    whole, tenths_of_us = moment[:19], int(moment[20:27].ljust(7, "0"))
    since = datetime.fromisoformat(whole) - datetime(2023, 11, 16)
    return (since // timedelta(microseconds=1) * 10 + tenths_of_us) / 1e7


def mooncake_lines(path: Path) -> list[Line]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Line(r["timestamp"] / 1e3, r["input_length"], r["output_length"]) for r in rows]


# Against the demo platform


def against_vllm(path: Path, speed: float, seconds: float) -> dict[str, Any]:
    """Replays what fits the context; hits of the engine's cache and of the model of it."""
    service = systems.spec()
    context = int(service.model.engine_args["max_model_len"])
    workload = trace_workload(
        "mooncake", path, context=context, speed=speed, **{"for": f"{seconds * speed}s"}
    )
    with systems.running("replay", systems.forebay(PORT), PORT) as server:
        settle(server.url)
        before = counters()
        cores = spare_cores()
        # Batch: a prompt as long as the context takes seconds, more than interactive may wait.
        run = play(
            server.url,
            workload,
            model=systems.MODEL,
            core=cores[0] if cores else None,
            headers={"X-Forebay-Class": "batch"},
            timeout_s=120.0,
        )
        after = counters()
    assert workload.trace is not None
    return cache_figures(workload.trace, run, {k: after[k] - before[k] for k in after})


def cache_figures(trace: TraceSpec, run: LoadRun, counted: dict[str, float]) -> dict[str, Any]:
    """Expected and measured, printed and returned."""
    blocks, block_tokens = engine_blocks()
    taken = {record.session for record in run.records if record.outcome == "ok"}
    expected = expected_hits(trace, taken, blocks, block_tokens)
    endless = expected_hits(trace, taken, 10**9, block_tokens)
    told = [r.cached_tokens for r in run.records if r.cached_tokens is not None]
    prompt = sum(record.prompt_tokens for record in run.records if record.session in taken)
    shares = {
        "expected of a cache of its size": 100 * expected / prompt,
        "of an endless one": 100 * endless / prompt,
        "the engine's counters": 100 * counted[CACHED] / max(counted[PROMPT], 1.0),
        "usage.cached_tokens of the answers": 100 * sum(told) / prompt if told else None,
    }
    ttft = percentiles([r.ttft for r in run.records if r.ttft is not None], (50, 99))
    print(
        f"\n{len(run.records)} requests at {trace.speed:g} x, {run.summary.shed} shed, "
        f"{run.summary.failed} failed; {prompt:,} prompt tokens taken up, the counters say "
        f"{counted[PROMPT]:,.0f}; {blocks:,} blocks of {block_tokens}; TTFT p50 {ttft[0]:.2f} s, "
        f"p99 {ttft[1]:.2f} s; client lag p99 {lag_p99_ms(run):.2f} ms"
    )
    print_table(("prefix cache hits", "% of prompt tokens"), list(shares.items()))
    measured = shares["usage.cached_tokens of the answers"] or shares["the engine's counters"]
    return {
        "requests": len(run.records),
        "taken_up": len(taken),
        "shed": run.summary.shed,
        "failed": run.summary.failed,
        "speed": trace.speed,
        "prompt_tokens": prompt,
        "counters": counted,
        "blocks": blocks,
        "shares": shares,
        "ttft_s": ttft,
        "off_points": abs((measured or 0.0) - (shares["expected of a cache of its size"] or 0.0)),
    }


def expected_hits(trace: TraceSpec, taken: set[int], blocks: int, block_tokens: int) -> int:
    """Prompt tokens that a cache of so many blocks finds in the requests taken up, in order."""
    rows = trace.rescaled(trace.read(), np.random.default_rng(0))
    cache = PrefixCache(blocks, block_tokens)
    return sum(
        cache.ask(blocks_of(row, number, block_tokens), row.prompt_tokens, row.output_tokens)
        for number, row in enumerate(rows)
        if number in taken
    )


def engine_blocks() -> tuple[int, int]:
    """KV blocks of the demo's engine, but the one that vLLM keeps empty, and tokens in each."""
    service = systems.spec()
    source = service.model.source_path
    assert source is not None
    folder = read_model_folder(source)
    assert folder.shape is not None
    need = demand(service, folder, folder.shape, folder.context_tokens or 0, (1, 1))
    size = service.hardware.kv_cache or 0
    return int(size // (need.kv_per_token * need.block_tokens)) - 1, need.block_tokens


def counters() -> dict[str, float]:
    """The engine's counters once they stand still; Ray passes them on with some delay."""
    give_up, still_since, last = time.monotonic() + GIVE_UP_S, time.monotonic(), page_counters()
    while time.monotonic() - still_since < STILL_S and time.monotonic() < give_up:
        time.sleep(2.0)
        now = page_counters()
        if now != last:
            still_since, last = time.monotonic(), now
    return last


def page_counters() -> dict[str, float]:
    """Sums over all series of each; 0 where there is none yet."""
    found = {PROMPT: 0.0, CACHED: 0.0}
    for line in fetch(METRICS).splitlines():
        name = line.partition("{")[0].partition(" ")[0].removesuffix("_total")
        if name in found and not line.startswith("#"):
            found[name] += float(line.rpartition(" ")[2])
    return found


if __name__ == "__main__":
    exit_by_bars(main)
