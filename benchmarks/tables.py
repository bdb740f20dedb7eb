"""How benchmarks say what they found: tables, a file in runs/, bars, and the exit code.

A figure that was measured several times, in rounds, has an interval. Its bar is met or missed where
the whole interval says so, and undecided where a bar lies within it.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from client import ROOT

MET, MISSED, UNDECIDED = "met", "MISSED", "undecided"

# Student's t for 95 % on one side, by degrees of freedom from 1 on; the last one stands for more
# (1.645 at most too wide by a tenth). There is no scipy among what the project needs.
_T_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


@dataclass(frozen=True)
class Bar:
    """A figure and what is asked of it.

    Attributes:
        name: of the figure.
        measured: None where it could not be.
        asked: what it has to reach.
        unit: of both.
        at_least: it may not be less; otherwise, not more.
        interval: within which the figure lies; None of one that was measured once and stands.
    """

    name: str
    measured: float | None
    asked: float
    unit: str = ""
    at_least: bool = False
    interval: tuple[float, float] | None = None

    @classmethod
    def of_mean(
        cls,
        name: str,
        values: Sequence[float],
        asked: float,
        unit: str = "",
        *,
        at_least: bool = False,
    ) -> Bar:
        """The mean of what several rounds gave, with how sure it is."""
        mean = statistics.fmean(values) if values else None
        return cls(name, mean, asked, unit, at_least, interval_of_mean(values) if values else None)

    @classmethod
    def of_ratios(
        cls, name: str, logs: Sequence[float], asked: float, *, at_least: bool = False
    ) -> Bar:
        """The geometric mean of ratios, from their natural logarithms, with how sure it is.

        Twice as much in one round and half as much in the next are no difference.
        """
        if not logs:
            return cls(name, None, asked, "", at_least)
        low, high = (_exp(end) for end in interval_of_mean(logs))
        return cls(name, _exp(statistics.fmean(logs)), asked, "", at_least, (low, high))

    @property
    def verdict(self) -> str:
        """Whether it was reached; what was not measured was not."""
        if self.measured is None:
            return MISSED
        ends = {self._reached(end) for end in self.interval or (self.measured,)}
        return UNDECIDED if len(ends) > 1 else MET if ends.pop() else MISSED

    def _reached(self, value: float) -> bool:
        return value >= self.asked if self.at_least else value <= self.asked

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ends = [end if math.isfinite(end) else None for end in self.interval or ()]
        return {
            "bar": self.name,
            "measured": self.measured,
            "asked": self.asked,
            "met": self.verdict == MET,
            "verdict": self.verdict,
            **({"interval": ends} if ends else {}),
        }


def interval_of_mean(values: Sequence[float]) -> tuple[float, float]:
    """The ends that the mean of many such values is above, and below, at 95 % each.

    By Student's t, which takes the values for independent. One value says nothing of its spread.
    """
    if len(values) < 2:
        return -math.inf, math.inf
    mean, degrees = statistics.fmean(values), len(values) - 1
    off = _T_95[min(degrees, len(_T_95)) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return mean - off, mean + off


def _exp(log: float) -> float:
    return math.exp(log) if math.isfinite(log) else math.inf if log > 0.0 else 0.0


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """One Markdown table; floats to four digits."""
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(_shown(value) for value in row) + " |", flush=True)


BROKEN = 3  # a benchmark's exit code
_printed: list[Bar] = []  # in this process, for its exit code


def print_bars(bars: Sequence[Bar]) -> None:
    """What was asked, what was measured, and the verdict."""
    rows = [
        (
            bar.name,
            f"{'>=' if bar.at_least else '<='} {_shown(bar.asked)} {bar.unit}",
            f"{_shown(bar.measured)} {bar.unit}{_interval_shown(bar)}",
            bar.verdict,
        )
        for bar in bars
    ]
    print_table(("bar", "asked", "measured", ""), rows)
    _printed.extend(bars)


def exit_by_bars(main: Callable[[], object]) -> NoReturn:
    """Run a benchmark and end its process: 1 when a bar that it printed was missed, 0 otherwise.

    What is undecided is no failure (more rounds would decide it), but it is said. One that breaks
    ends with 3: a missed bar explains a 1, and nothing else.
    """
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(BROKEN)
    for verdict in (UNDECIDED, MISSED):
        if names := [bar.name for bar in _printed if bar.verdict == verdict]:
            print(f"\n{verdict}: {'; '.join(names)}", flush=True)
    sys.exit(any(bar.verdict == MISSED for bar in _printed))


def write(name: str, content: dict[str, Any]) -> None:
    """Writes runs/NAME.json."""
    folder = ROOT / "runs"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1))


def _interval_shown(bar: Bar) -> str:
    if bar.interval is None:
        return ""
    low, high = bar.interval
    return f" ({_shown(low)} to {_shown(high)})" if math.isfinite(high) else " (one round)"


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
