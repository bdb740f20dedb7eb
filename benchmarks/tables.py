"""How the benchmarks of the load client say what they found: a table, and a file in runs/."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from client import ROOT


@dataclass(frozen=True)
class Bar:
    """A figure and what is asked of it."""

    name: str
    measured: float | None
    asked: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it was reached; what was not measured was not."""
        if self.measured is None:
            return False
        return self.measured >= self.asked if self.at_least else self.measured <= self.asked

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"bar": self.name, "measured": self.measured, "asked": self.asked, "met": self.met}


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """One Markdown table; floats to four digits."""
    print("\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(_shown(value) for value in row) + " |", flush=True)


def print_bars(bars: Sequence[Bar]) -> None:
    """What was asked, what was measured, and the verdict."""
    rows = [
        (
            bar.name,
            f"{'>=' if bar.at_least else '<='} {_shown(bar.asked)} {bar.unit}",
            f"{_shown(bar.measured)} {bar.unit}",
            "met" if bar.met else "MISSED",
        )
        for bar in bars
    ]
    print_table(("bar", "asked", "measured", ""), rows)


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
