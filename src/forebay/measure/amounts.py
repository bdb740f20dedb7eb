"""Amounts in the words of gates and margins: a number and its unit."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forebay.measure.metrics import MeasuredMetric

PERCENT = {"%": 0.01, "percent": 0.01}
POINTS = {"points": 0.01, "point": 0.01}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
PER_SECOND = {"/s": 1.0}

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(\S*)")


class AmountError(ValueError):
    """Not an amount in the units allowed. ``hint`` says what to write."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def parse_amount(text: str, units: Mapping[str, float]) -> float:
    """An amount such as "10 %" or "800ms", in units of the first power; never negative.

    Raises:
        AmountError: it is none, or in another unit.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        unit = next(iter(units))
        number = match[1] if match else "10"
        raise AmountError(f"{text.strip()!r} is not an amount in {unit}", f"write {number} {unit}")
    return float(match[1]) * units[match[2].lower()]


def change_units(metric: MeasuredMetric) -> Mapping[str, float]:
    """How a change of a metric is written: percent of a figure, points of a share."""
    return PERCENT if metric.by_ratio else POINTS


def figure_units(metric: MeasuredMetric) -> Mapping[str, float]:
    """How the metric itself is written."""
    return {"s": SECONDS, "1/s": PER_SECOND, "share": PERCENT}[metric.unit]
