"""What the turns of `static_bounds.py` say of its bars.

Good requests are judged by workload, over all rounds at all loads: the geometric mean of the ratios
within rounds, beside the bound that comes out best there. A machine whose pace drifts spreads these
ratios by a fifth to a third, so that the few rounds of a single load decide nothing.

Run as: python benchmarks/static_bounds_verdict.py runs/static_bounds.json
to judge again what a run has stored.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from static_bounds_offered import SLO_S
from static_bounds_turns import FOREBAY, Match, Turn, figures
from tables import UNDECIDED, Bar, print_bars

LEAST_GOOD = 0.05  # requests/s: a turn that had none counts as this
LEAST_OF_BEST, REFUSAL_MS, REFUSAL_CPU_MS = 0.95, 100.0, 2.5
MOST_WAITING = 0.2  # of a core; more is no idling, and two servers have been at work at once

Sweeps = Mapping[str, Mapping[str, float]]  # by workload, then by bound


Row = Mapping[str, Any]  # one turn, as `Turn.row` gives it


def ratio_bars(match: Match) -> list[Bar]:
    """Good requests of the first, beside those of each other, at this load alone.

    The rounds count as independent. What drift does to the ratios of a mirrored pair, one up and
    the other down, widens the interval; so these verdicts are rather too careful.
    """
    ours = match.contenders[0].name
    return [
        Bar.of_mean(f"{match.offer}: good/s of {ours}, x of {other}", values, LEAST_OF_BEST,
                    at_least=True)
        for other, values in match.ratios().items()
    ]  # fmt: skip


def workload_bars(rows: Iterable[Row]) -> list[Bar]:
    """Forebay beside the best bound of each workload, and over all of them."""
    found = {workload: best(of) for workload, of in log_ratios(rows).items()}
    bars = [
        Bar.of_ratios(f"{workload}: good/s, x of {bound}", logs, LEAST_OF_BEST, at_least=True)
        for workload, (bound, logs) in found.items()
    ]
    if len(found) > 1:
        name = "all workloads: good/s, x of the best bound of each"
        pooled = [log for _, logs in found.values() for log in logs]
        bars.append(Bar.of_ratios(name, pooled, LEAST_OF_BEST, at_least=True))
    return bars


def best(of: Mapping[str, Sequence[float]]) -> tuple[str, Sequence[float]]:
    """The bound that ours has the least of, and the logarithms of those ratios."""
    return min(of.items(), key=lambda item: statistics.fmean(item[1]))


def log_ratios(rows: Iterable[Row]) -> dict[str, dict[str, list[float]]]:
    """By workload and bound: the logarithm of ours over its good requests, round by round."""
    rounds: dict[tuple[str, float, int], dict[str, float]] = defaultdict(dict)
    for row in rows:
        rounds[row["workload"], row["x"], row["round"]][row["system"]] = row["good/s"]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (workload, _, _), good in rounds.items():
        for system in good:
            if FOREBAY in good and not system.startswith(FOREBAY):
                log = math.log(max(good[FOREBAY], LEAST_GOOD) / max(good[system], LEAST_GOOD))
                found[workload][system].append(log)
    return found


def is_undecided(match: Match, matches: Sequence[Match]) -> bool:
    """Whether more rounds are wanted of it, one of these."""
    bars = ratio_bars(match)
    if match.contenders[0].name == FOREBAY:
        same = [one for one in matches if one.offer.workload == match.offer.workload]
        bars = workload_bars(turn.row() for one in same for turn in one.turns)
    return any(bar.verdict == UNDECIDED for bar in bars)


def judged(matches: Sequence[Match], swept: Sweeps) -> list[Bar]:
    """Every bar that there are figures for."""
    against = [match for match in matches if match.contenders[0].name == FOREBAY]
    bars = workload_bars(turn.row() for match in against for turn in match.turns)
    bars += worst_workload(against, swept)
    bars += [bar for match in matches if match not in against for bar in ratio_bars(match)]
    bars += [bar for match in against for bar in promise_bars(match)]
    bars += cpu_per_refusal(against)
    turns = [turn for match in matches for turn in match.turns]
    return bars + soundness(turns) if turns else bars


def promise_bars(match: Match) -> list[Bar]:
    """First tokens and refusals of ours, over all rounds."""
    ours = figures(match.of(match.contenders[0]))
    return [
        Bar(f"{match.offer}: TTFT p99", ours["TTFT p99 s"], SLO_S, "s"),
        Bar(f"{match.offer}: refusal p99", ours["refusal p99 ms"], REFUSAL_MS, "ms"),
    ]


def cpu_per_refusal(matches: Sequence[Match]) -> list[Bar]:
    """What the refusals that the most load brings beyond those of the least cost all processes."""
    short = [match for match in matches if match.offer.workload == "short"]
    if len(short) < 2:
        return []
    by_factor = sorted(short, key=lambda match: match.offer.factor)
    low, high = (per_turn(match.of(match.contenders[0])) for match in (by_factor[0], by_factor[-1]))
    each_ms = 1e3 * (high[0] - low[0]) / max(high[1] - low[1], 1.0)
    told = each_ms if each_ms > 0.0 else None  # or the engine's part differs by more than all that
    return [Bar("short: CPU per refusal, all processes", told, REFUSAL_CPU_MS, "ms")]


def per_turn(turns: Sequence[Turn]) -> tuple[float, float]:
    """CPU seconds and refusals of a turn, on average."""
    count = len(turns)
    return sum(turn.cpu_s for turn in turns) / count, sum(len(t.refused) for t in turns) / count


def worst_workload(matches: Sequence[Match], swept: Sweeps) -> list[Bar]:
    """The best single bound's worst workload in the sweep, beside ours in the rounds."""
    factor = min((match.offer.factor for match in matches), default=0.0)
    here = [m for m in matches if m.offer.factor == factor and m.offer.workload in swept]
    if len(here) < 2:
        return []  # on one workload alone a bound's worst is its best
    values = {match.offer.workload: swept[match.offer.workload] for match in here}
    worst = {
        bound: min(found.get(bound, 0.0) / max(*found.values(), 1e-9) for found in values.values())
        for bound in set().union(*values.values())
    }
    single = max(worst, key=lambda bound: worst[bound])
    print(f"\nbest single static bound: {single}; on its worst workload {worst[single]:.2f} of the "
          "best bound there")  # fmt: skip
    rows = [turn.row() for match in matches for turn in match.turns]
    least = min(workload_bars(rows)[:-1], key=lambda bar: bar.measured or 0.0)
    name = "our worst workload, of the best bound there"
    return [Bar(name, least.measured, worst[single], at_least=True, interval=least.interval)]


def soundness(turns: Sequence[Turn]) -> list[Bar]:
    """Whether the figures may be believed."""
    ours = [turn for turn in turns if turn.contender.name.startswith(FOREBAY)]
    failed = sum(r.outcome not in ("ok", "shed") for turn in ours for r in turn.run.records)
    late = sum(not turn.run.validity.valid for turn in turns)
    waiting = max(turn.waiting_cores for turn in turns)
    return [
        Bar("requests of ours that failed", failed, 0),
        Bar("turns whose client was late", late, 0),
        Bar("the server that waits, of a core, at most", waiting, MOST_WAITING),
    ]


if __name__ == "__main__":
    print_bars(workload_bars(json.loads(Path(sys.argv[1]).read_text())["turns"]))
