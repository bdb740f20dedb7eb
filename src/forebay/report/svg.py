"""Scales, axes and marks as SVG text.

Colours and fonts come from the page's style sheet by class, so a chart follows light, dark and
print without being drawn again.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["right", "left", "above", "below"]
# Pixels across and down from a mark to its label, and the label's anchor.
_BESIDE: dict[Side, tuple[float, float, str]] = {
    "right": (7, 4, ""),
    "left": (-7, 4, " end"),
    "above": (0, -8, " mid"),
    "below": (0, 17, " mid"),
}


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
        """Round values within the scale, some ``about`` of them.

        A log scale has its decades, or where it spans fewer than three of them 1, 2, 5 x 10^n.
        """
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            decades = [10.0**power for power in range(first, last + 1)]
            within = [value for value in decades if self.low <= value <= self.high]
            if len(within) >= 3:
                return within
            steps = (m * value for value in decades for m in (1, 2, 5))
            return [value for value in steps if self.low <= value <= self.high]
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
    return plot(width, height, (0.0, max(until_s, 1.0)), y, y_log=log, top=top)


def plot(
    width: int,
    height: int,
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    x_log: bool = False,
    y_log: bool = False,
    top: int = 38,
) -> Frame:
    """A frame over any two ranges, with room for the axes' labels."""
    left, right, bottom = (52, 8, 36) if width < 600 else (58, 12, 40)
    return Frame(
        width,
        height,
        Scale(*x, left, width - right, x_log),
        Scale(*y, height - bottom, top, y_log),
    )


def chart(area: Frame, name: str, description: str, parts: Iterable[str], kind: str = "") -> str:
    """The whole SVG element, with an accessible name.

    ``kind`` says on which pages it shows: ``wide``, ``narrow`` (by default whichever it was drawn
    for), or any other word for both.
    """
    label = html.escape(f"{name}. {description}")
    kind = kind or ("narrow" if area.narrow else "wide")
    return (
        f'<svg class="chart {kind}" role="img" '
        f'viewBox="0 0 {area.width} {area.height}" aria-label="{label}">{"".join(parts)}</svg>'
    )


def axes(
    area: Frame,
    x_title: str,
    y_title: str,
    y_labels: Sequence[tuple[float, str]],
    x_labels: Sequence[tuple[float, str]] | None = None,
) -> str:
    """Grid lines with their labels, and the axes' titles with units; x is seconds by default."""
    left, right, base = area.x.start, area.x.end, area.y.start
    parts = []
    for value, text in y_labels:
        at = area.y(value)
        parts.append(f'<path class="grid" d="M{left:.1f} {at:.1f}H{right:.1f}"/>')
        parts.append(_text(left - 7, at + 4, text, "tick end"))
    if x_labels is None:
        x_labels = [(value, f"{value:g}") for value in area.x.ticks(5 if area.narrow else 10)]
    parts += [_text(area.x(value), base + 17, text, "tick mid") for value, text in x_labels]
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


def level(area: Frame, value: float, label: str, kind: str, *, at_end: bool = True) -> str:
    """A dashed horizontal line with its label above its right end, or its left."""
    at = area.y(value)
    line = f'<path class="level {kind}" d="M{area.x.start:.1f} {at:.1f}H{area.x.end:.1f}"/>'
    if at_end:
        return line + _text(area.x.end - 3, at - 5, label, f"level-label end {kind}")
    return line + _text(area.x.start + 3, at - 5, label, f"level-label {kind}")


def upright(area: Frame, value: float, label: str, kind: str) -> str:
    """A dashed vertical line with its label above it, within the frame."""
    at, top = area.x(value), area.y.end
    path = f'<path class="level {kind}" d="M{at:.1f} {area.y.start:.1f}V{top:.1f}"/>'
    side = "level-label end" if at > (area.x.start + area.x.end) / 2 else "level-label"
    return path + _text(at, top - 5, label, f"{side} {kind}")


def line(area: Frame, points: Sequence[tuple[float, float | None]], kind: str) -> str:
    """A polyline through (x, y) values, broken where y is None."""
    path, pen = [], "M"
    for x, y in points:
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{area.x(x):.1f} {area.y(y):.1f}{'h0' if pen == 'M' else ''}")
        pen = "L"
    return f'<path class="line {kind}" d="{"".join(path)}"/>' if path else ""


def fan(area: Frame, points: Sequence[tuple[float, float | None, float | None]], kind: str) -> str:
    """The area between the low and high of (x, low, high) values, broken where one is None."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for x, low, high in points:
        if low is None or high is None:
            runs.append([])
        else:
            runs[-1].append((area.x(x), area.y(low), area.y(high)))
    path = []
    for run in runs:
        edge = [f"{x:.1f} {high:.1f}" for x, _, high in run]
        edge += [f"{x:.1f} {low:.1f}" for x, low, _ in reversed(run)]
        if len(run) > 1:
            path.append(f"M{'L'.join(edge)}Z")
    return f'<path class="fan {kind}" d="{"".join(path)}"/>' if path else ""


def dots(area: Frame, points: Iterable[tuple[float, float]], kind: str) -> str:
    """Round dots at (x, y) values, in one path so that thousands stay small."""
    path = "".join(f"M{area.x(x):.1f} {area.y(y):.1f}h0" for x, y in points)
    return f'<path class="dots {kind}" d="{path}"/>' if path else ""


def crosses(area: Frame, points: Iterable[tuple[float, float]], kind: str) -> str:
    """Small crosses at (x, y) values: told from dots without colour."""
    marks = (f"M{area.x(x) - 2.5:.1f} {area.y(y) - 2.5:.1f}l5 5m0-5l-5 5" for x, y in points)
    path = "".join(marks)
    return f'<path class="crosses {kind}" d="{path}"/>' if path else ""


def triangles(area: Frame, points: Iterable[tuple[float, float]], kind: str) -> str:
    """Small filled triangles at (x, y) values."""
    path = "".join(f"M{area.x(x):.1f} {area.y(y) - 4:.1f}l3.8 7h-7.6z" for x, y in points)
    return f'<path class="solid {kind}" d="{path}"/>' if path else ""


def squares(area: Frame, points: Iterable[tuple[float, float]], kind: str) -> str:
    """Small filled squares at (x, y) values."""
    marks = (f"M{area.x(x) - 2.8:.1f} {area.y(y) - 2.8:.1f}h5.6v5.6h-5.6z" for x, y in points)
    path = "".join(marks)
    return f'<path class="solid {kind}" d="{path}"/>' if path else ""


def rug(area: Frame, values: Iterable[float], kind: str, row: int = 0) -> str:
    """Short marks along the top, one for each pixel that has an x value."""
    top = area.y.end + 2 + 10 * row
    places = sorted({round(area.x(value)) for value in values})
    path = "".join(f"M{place} {top:.1f}v7" for place in places)
    return f'<path class="rug {kind}" d="{path}"/>' if path else ""


def label(
    area: Frame, x: float, y: float, text: str, kind: str, side: Side = "right", drop: float = 0.0
) -> str:
    """Text beside an (x, y) value, ``drop`` pixels lower than usual."""
    across, down, anchor = _BESIDE[side]
    return _text(area.x(x) + across, area.y(y) + down + drop, text, f"{kind}{anchor}")


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'
