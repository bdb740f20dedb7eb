"""Numbers as a reader wants them."""

from __future__ import annotations

import math
from collections.abc import Callable

NONE = "–"


def seconds(value: float | None) -> str:
    """``0.0832`` as ``83 ms``, ``1.2345`` as ``1.23 s``."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞"
    if value < 0.00995:
        return f"{value * 1000:.1f} ms"
    return f"{value * 1000:.0f} ms" if value < 0.9995 else f"{value:.2f} s"


def limit(value: float) -> str:
    """A chosen number of seconds, without the zeros that a measured one has: ``1 s``."""
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def rate(value: float | None) -> str:
    """Two digits below 1, one decimal below 100, thousands separated above."""
    if value is None or not math.isfinite(value):
        return NONE
    if 0 < abs(value) < 0.95:
        return f"{value:.2g}"
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:,.0f}"


def short(value: float) -> str:
    """``1500`` as ``1.5k``, ``2000000`` as ``2M``: for the labels of an axis."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def between(low: float, high: float, words: Callable[[float], str]) -> str:
    """An interval; an infinite bound is one that is not known."""
    if not (math.isfinite(low) or math.isfinite(high)):
        return ""
    if not math.isfinite(low):
        return f"at most {words(high)}"
    return f"{words(low)} to {words(high)}" if math.isfinite(high) else f"at least {words(low)}"


def plain(text: object, most: int = 0) -> str:
    """Text from outside, made fit for a page: on one line, cut to ``most`` characters if above 0.

    What has no shape of its own becomes U+FFFD: control characters, halves of surrogate pairs
    (they cannot be written as UTF-8) and the marks that turn the direction of what follows.
    """
    line = " ".join(str(text).split())
    shown = "".join(char if char.isprintable() else "\ufffd" for char in line)
    return f"{shown[: most - 1]}…" if 0 < most < len(shown) else shown


def portion(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent.

    Keeps the first digits of a small one, and rounds nothing up to all of it.
    """
    if not whole > 0:
        return NONE
    percent = 100 * part / whole
    return ">99.9 %" if 99.95 <= percent < 100 else f"{percent:.3g} %"
