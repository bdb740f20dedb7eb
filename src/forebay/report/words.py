"""Numbers as a reader wants them."""

from __future__ import annotations

import math

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
    """One decimal below 100, thousands separated above."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value:.1f}" if abs(value) < 99.95 else f"{value:,.0f}"


def share(part: float, whole: float) -> str:
    """``part`` of ``whole`` in percent."""
    return f"{100 * part / whole:.0f} %" if whole > 0 else NONE


def factor(value: float) -> str:
    """``0.5`` as ``0.5×``, ``3.0`` as ``3×``."""
    return f"{value:g}×"
