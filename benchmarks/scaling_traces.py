"""An hour of a real trace in virtual time: replica-hours and SLO attainment of each policy, tuned.

The trace is Azure's of 2023, conversation (AzurePublicDataset, CC-BY-4.0; not shipped): 19,366
requests in 58 minutes, whose rate swings between 3.8 and 8 a second. It is laid over itself, the
second copy 90 s later, so that it keeps its swell at twice the rate. Replicas are the roofline
profile `l4-8b`: Llama 3.1 8B in FP8 on one L4; cold start 120 s, TTFT 3 s, TPOT 100 ms.

Each policy is tuned by a search that is shown: the cheapest setting that attains 97 %; Forebay's,
the cheapest that attains what the others do at theirs, since it should be worse in neither.

Run as: python benchmarks/scaling_traces.py [--trace FILE] [--jobs 1] [--minutes 60] [--quick]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from forebay.simulate import Slo, asks_of
from forebay.workload import Row, TraceError, read_trace, shifted, window, within_context
from scaling_world import (
    Figures,
    Play,
    World,
    ours_with,
    plans,
    running,
    search_queue,
    search_ray,
    served,
    show,
    tuned,
)
from tables import Bar, exit_by_bars, print_bars, write

TRACE = Path(__file__).parents[1] / ".." / "shared" / "traces" / "azure_conv.csv"
APART_S = 90.0  # between the two copies of the trace
COLD_START_S = 120.0
SLOTS = 64
RIVALS = ("ray", "queue")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=TRACE, help="azure_conv.csv")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the trace")
    parser.add_argument("--quick", action="store_true", help="Forebay's settings only")
    options = parser.parse_args()
    if not options.trace.exists():
        sys.exit(
            f"no trace at {options.trace}: get AzureLLMInferenceTrace_conv.csv from "
            "github.com/Azure/AzurePublicDataset and name it with --trace"
        )
    try:
        world = azure(options.trace, 60 * options.minutes)
    except (TraceError, ValueError) as error:
        sys.exit(f"{options.trace}: {error}")
    with running(options.jobs) as play:
        ours = search_ours(play, world)
        if options.quick:
            show("Forebay", ours)
            return
        searches = {
            "ours": ours,
            "ray": search_ray(play, world, (16, 20, 24, 28)),
            "queue": search_queue(play, world, (), (16, 20, 24, 28)),
            "clairvoyant": play(world, plans((0.9,))),
        }
    report(searches)


def azure(path: Path, seconds: float) -> World:
    """The trace as the traffic of a service."""
    engine = served("l4-8b", SLOTS)
    with path.open() as lines:
        rows = within_context(read_trace("azure", lines), engine.max_model_len)
    both: list[Row] = sorted([*rows, *shifted(rows, APART_S)], key=lambda row: row.at_s)
    return World(
        name="Azure conversation, laid over itself",
        engine=engine,
        slo=Slo(ttft_s=3.0, tpot_s=0.1),
        asks=asks_of(window(both, 0.0, seconds)),
        min=1,
        max=24,
        initial=6,
        cold_start_s=COLD_START_S,
    )


def search_ours(play: Play, world: World) -> list[Figures]:
    """Headrooms with the default window, then a longer one beside the best."""
    first = play(world, [ours_with(headroom) for headroom in (0.0, 0.05, 0.1, 0.2)])
    best = tuned(first).policy
    return first + play(world, [ours_with(best.values["headroom"], 600.0)])


def report(searches: dict[str, list[Figures]]) -> None:
    best = {name: tuned(found) for name, found in searches.items()}
    best["ours"] = tuned(searches["ours"], max(best[name].attainment for name in RIVALS))
    for found in searches.values():
        show(f"The search of {found[0].policy.name}", found)
    show("Each at its best", list(best.values()))
    bars: list[Bar] = []
    for name in RIVALS:
        us, them = best["ours"], best[name]
        bars += [
            Bar(f"attained, beside {name}", 100 * us.attainment, 100 * them.attainment, "%", True),
            Bar(f"replica-hours, beside {name}", us.hours, them.hours),
        ]
    print_bars(bars)
    content: dict[str, Any] = {name: [one.plain() for one in f] for name, f in searches.items()}
    write("scaling_traces", {**content, "bars": [bar.as_dict() for bar in bars]})


if __name__ == "__main__":
    exit_by_bars(main)
