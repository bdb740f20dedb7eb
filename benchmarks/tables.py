"""How benchmarks say what they found: tables, a file in runs/, bars, and the exit code."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from client import ROOT

MET, MISSED = "met", "MISSED"


@dataclass(frozen=True)
class Bar:
    """A figure and what is asked of it.

    Attributes:
        name: of the figure.
        measured: None where it could not be.
        asked: what it has to reach.
        unit: of both.
        at_least: it may not be less; otherwise, not more.
    """

    name: str
    measured: float | None
    asked: float
    unit: str = ""
    at_least: bool = False

    @property
    def verdict(self) -> str:
        """Whether it was reached; what was not measured was not."""
        if self.measured is None:
            return MISSED
        reached = self.measured >= self.asked if self.at_least else self.measured <= self.asked
        return MET if reached else MISSED

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "bar": self.name,
            "measured": self.measured,
            "asked": self.asked,
            "met": self.verdict == MET,
            "verdict": self.verdict,
        }


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
            f"{_shown(bar.measured)} {bar.unit}",
            bar.verdict,
        )
        for bar in bars
    ]
    print_table(("bar", "asked", "measured", ""), rows)
    _printed.extend(bars)


def exit_by_bars(main: Callable[[], object]) -> NoReturn:
    """Run a benchmark and end its process: 1 when a bar that it printed was missed, 0 otherwise.

    One that breaks ends with 3: a missed bar explains a 1, and nothing else.
    """
    try:
        main()
    except Exception:
        traceback.print_exc()
        sys.exit(BROKEN)
    missed = [bar.name for bar in _printed if bar.verdict == MISSED]
    if missed:
        print(f"\n{MISSED}: {'; '.join(missed)}", flush=True)
    sys.exit(bool(missed))


def write(name: str, content: dict[str, Any]) -> None:
    """Writes runs/NAME.json."""
    folder = ROOT / "runs"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1))


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
