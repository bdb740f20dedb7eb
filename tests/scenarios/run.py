"""The net: every promise, played in virtual time, beside what was recorded.

Each cell is a workload on an engine: it decides on hundreds of requests by the objects that
production runs. The table says for each group how many cells are identical to the reference, within
its intervals, moved or broken. Exit code: 0 all identical or within, 1 not, 2 wrong input.

Run as: python tests/scenarios/run.py [--only TEXT] [--jobs 2] [--json FILE] [--record]
For example: python tests/scenarios/run.py --only "load h100-8b"
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

sys.path[:0] = [str(Path(__file__).parents[1] / "support")]

from cells import cells
from net import Verdict, compare, play_all, read_reference, record


def main() -> int:
    """Play the cells that are asked for, and print how they compare."""
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(description=lines[0], epilog=lines[-1])
    parser.add_argument("--only", default="", help="cells whose name has this text")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--record", action="store_true", help="make these figures the reference")
    parser.add_argument("--verbose", action="store_true", help="print every cell's figures")
    options = parser.parse_args()
    names = [name for name in cells() if options.only in name]
    if not names:
        print(f"no cell has {options.only!r} in its name; there are:", *cells(), sep="\n  ")
        return 2
    began = time.monotonic()
    recorded = read_reference()
    verdicts = []
    for number, run in enumerate(play_all(names, options.jobs), start=1):
        verdict = compare(run, recorded.get(run.name))
        verdicts.append(verdict)
        print(
            f"[{number}/{len(names)}] {run.name}: {verdict.word}, {run.decisions} decisions,"
            f" {run.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    show(verdicts, options.verbose)
    print(f"{time.monotonic() - began:.0f} s on {options.jobs} processes")
    if options.json:
        options.json.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1))
    if options.record:
        record([verdict.run for verdict in verdicts])
        return 0
    return int(any(verdict.bad for verdict in verdicts))


def show(verdicts: Sequence[Verdict], verbose: bool) -> None:
    """A line a group, and then a line for each cell that somebody should look at."""
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.run.name.split()[0]].append(verdict)
    row = "{:<14} {:>6} {:>10} {:>10} {:>7} {:>6} {:>7} {:>4}"
    words = ("identical", "within", "moved", "broken", "new")
    print(row.format("group", "cells", "decisions", *words))
    for name, members in [*groups.items(), ("all", list(verdicts))]:
        counts = Counter(member.word for member in members)
        decisions = sum(member.run.decisions for member in members)
        print(row.format(name, len(members), decisions, *(counts[word] for word in words)))
    for verdict in sorted(verdicts, key=lambda one: one.run.name):
        for note in verdict.notes:
            print(f"{verdict.run.name}: {verdict.word}: {note}")
        if verbose:
            run = verdict.run
            figures = [f"{key} {fmean(run.values(key)):.4g}" for key in run.seeds[0].figures]
            print(f"{run.name}: {', '.join(figures)}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
