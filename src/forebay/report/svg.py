"""Scales, axes and marks as SVG text.

Colours and fonts come from the page's style sheet by class, so a chart follows light, dark and
print without being drawn again.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from ``low``-``high`` to pixels from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of ``value``; what lies outside is drawn at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        """Round values within the scale: decades of a log scale, else some ``about`` of them."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = nice_step((self.high - self.low) / max(1, about))
        first = math.ceil(self.low / step)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 x 10^n that is at least ``rough``."""
    if not rough > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot area of ``width`` x ``height`` pixels with its two scales."""

    width: int
    height: int
    x: Scale
    y: Scale

    @property
    def narrow(self) -> bool:
        """Whether it is drawn for a phone."""
        return self.width < 600


def frame(
    width: int,
    height: int,
    until_s: float,
    y: tuple[float, float],
    *,
    log: bool = False,
    top: int = 38,
) -> Frame:
    """A frame whose x axis runs over a run of ``until_s`` seconds."""
    left, right, bottom = (52, 8, 36) if width < 600 else (58, 12, 40)
    return Frame(
        width,
        height,
        Scale(0.0, max(until_s, 1.0), left, width - right),
        Scale(y[0], y[1], height - bottom, top, log),
    )


def chart(area: Frame, name: str, description: str, parts: Iterable[str]) -> str:
    """The whole SVG element, with an accessible name."""
    label = html.escape(f"{name}. {description}")
    return (
        f'<svg class="chart {"narrow" if area.narrow else "wide"}" role="img" '
        f'viewBox="0 0 {area.width} {area.height}" aria-label="{label}">{"".join(parts)}</svg>'
    )


def axes(area: Frame, x_title: str, y_title: str, y_labels: Sequence[tuple[float, str]]) -> str:
    """Grid lines with their labels, and the axes' titles with units."""
    left, right, base = area.x.start, area.x.end, area.y.start
    parts = []
    for value, text in y_labels:
        at = area.y(value)
        parts.append(f'<path class="grid" d="M{left:.1f} {at:.1f}H{right:.1f}"/>')
        parts.append(_text(left - 7, at + 4, text, "tick end"))
    seconds = area.x.ticks(5 if area.narrow else 10)
    parts += [_text(area.x(value), base + 17, f"{value:g}", "tick mid") for value in seconds]
    parts.append(f'<path class="axis" d="M{left:.1f} {base:.1f}H{right:.1f}"/>')
    parts.append(_text((left + right) / 2, base + 33, x_title, "tick mid"))
    parts.append(_text(2, 12, y_title, "axis-title"))
    return "".join(parts)


def bands(area: Frame, spans: Sequence[tuple[float, float, str]]) -> str:
    """Stages as shaded bands, each with its label on top."""
    top, parts = area.y.end, []
    for number, (start, end, label) in enumerate(spans):
        left, right = area.x(start), area.x(end)
        kind = "band" if number % 2 else "band even"
        size = f'width="{right - left:.1f}" height="{area.y.start - top:.1f}"'
        parts.append(f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" {size}/>')
        parts.append(_text((left + right) / 2, top - 5, label, "stage mid"))
    return "".join(parts)


def level(area: Frame, value: float, label: str, kind: str) -> str:
    """A dashed horizontal line with its label above its right end."""
    at = area.y(value)
    line = f'<path class="level {kind}" d="M{area.x.start:.1f} {at:.1f}H{area.x.end:.1f}"/>'
    return line + _text(area.x.end - 3, at - 5, label, f"level-label end {kind}")


def line(area: Frame, points: Sequence[tuple[float, float]], kind: str) -> str:
    """A polyline through (x, y) values."""
    if not points:
        return ""
    steps = "L".join(f"{area.x(x):.1f} {area.y(y):.1f}" for x, y in points)
    return f'<path class="line {kind}" d="M{steps}"/>'


def dots(area: Frame, points: Iterable[tuple[float, float]], kind: str) -> str:
    """Round dots at (x, y) values, in one path so that thousands stay small."""
    path = "".join(f"M{area.x(x):.1f} {area.y(y):.1f}h0" for x, y in points)
    return f'<path class="dots {kind}" d="{path}"/>' if path else ""


def crosses(area: Frame, points: Iterable[tuple[float, float]], kind: str) -> str:
    """Small crosses at (x, y) values: told from dots without colour."""
    marks = (f"M{area.x(x) - 2.5:.1f} {area.y(y) - 2.5:.1f}l5 5m0-5l-5 5" for x, y in points)
    path = "".join(marks)
    return f'<path class="crosses {kind}" d="{path}"/>' if path else ""


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'
