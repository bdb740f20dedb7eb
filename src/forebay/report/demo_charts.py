"""The demo page's charts, each drawn twice: for a wide page and for a phone."""

from __future__ import annotations

import html
from collections.abc import Callable

from forebay.measure import Window
from forebay.report import svg
from forebay.report.demo_data import DemoData
from forebay.report.words import factor, limit, rate, short

_SIZES = ((960, 300), (390, 260))
_TIME = "seconds since the load began"
# Drawn from the axis up. The key is an attribute of Window and a class of the style sheet.
_STACK = ("good", "late", "failed", "shed")


def requests_chart(data: DemoData) -> str:
    """Requests per second by outcome, stacked up to what was offered."""

    def draw(size: tuple[int, int]) -> str:
        highest = max([_offered(w) for w in data.windows] + [data.capacity_rps, 1.0])
        area = svg.frame(*size, _until(data), (0.0, 1.08 * highest))
        labels = [(tick, f"{tick:g}") for tick in area.y.ticks(4)]
        parts = [
            svg.bands(area, _stages(data, area)),
            svg.axes(area, _TIME, "requests/s", labels),
            *(_bar(area, window) for window in data.windows),
            svg.line(area, _outline(data), "offered"),
            svg.level(area, data.capacity_rps, f"capacity {rate(data.capacity_rps)}", "capacity"),
        ]
        what = "Stacked per second: good, late, failed and shed requests, against those offered."
        return svg.chart(area, "Requests per second over time", what, parts)

    return _both(draw)


def ttft_chart(data: DemoData) -> str:
    """Time to first token of every request, on a log scale, with the SLO."""
    good: list[tuple[float, float]] = []
    late: list[tuple[float, float]] = []
    for sample in data.samples:
        if sample.ttft is not None and sample.ttft > 0:
            kept = sample.outcome == "ok" and sample.ttft <= data.slo_ttft_s
            (good if kept else late).append((sample.t, sample.ttft))
    shed = [s.t for s in data.samples if s.outcome == "shed"]
    low = min([ttft for _, ttft in good + late] + [data.slo_ttft_s / 10])
    high = max([ttft for _, ttft in good + late] + [data.slo_ttft_s])

    def draw(size: tuple[int, int]) -> str:
        area = svg.frame(*size, _until(data), (low / 1.3, high * 1.8), log=True)
        labels = [(tick, limit(tick)) for tick in area.y.ticks(4)]
        parts = [
            svg.bands(area, _stages(data, area)),
            svg.axes(area, _TIME, "time to first token (log scale)", labels),
            svg.rug(area, shed, "shed"),
            svg.dots(area, good, "good"),
            svg.crosses(area, late, "late"),
            svg.level(area, data.slo_ttft_s, f"SLO {limit(data.slo_ttft_s)}", "slo"),
        ]
        what = (
            f"{len(good)} requests within the SLO of {limit(data.slo_ttft_s)}, "
            f"{len(late)} late or failed, {len(shed)} shed (marks along the top)."
        )
        return svg.chart(area, "Time to first token of each request", what, parts)

    return _both(draw)


def server_charts(data: DemoData) -> list[tuple[str, str]]:
    """(heading, chart) of each series that is known: the server's, or the client's tokens."""
    series = [
        ("Prompt tokens queued", "tokens", [(p.t, p.queued_tokens) for p in data.server]),
        ("Requests running", "requests", [(p.t, p.running) for p in data.server]),
        ("Output tokens", "tokens/s", [(p.t, p.tokens_per_s) for p in data.server]),
    ]
    charts = []
    for name, unit, points in series:
        known = [(t, value) for t, value in points if value is not None]
        if not known and unit == "tokens/s":
            known = [(w.start_s + w.width_s / 2, w.tokens / w.width_s) for w in data.windows]
        if known:
            charts.append((name, _series_chart(data, name, unit, known)))
    return charts


def _series_chart(data: DemoData, name: str, unit: str, points: list[tuple[float, float]]) -> str:
    highest = max(value for _, value in points)

    def draw(size: tuple[int, int]) -> str:
        area = svg.frame(size[0], 178, _until(data), (0.0, 1.1 * max(highest, 1.0)))
        labels = [(tick, short(tick)) for tick in area.y.ticks(3)]
        parts = [
            svg.bands(area, _stages(data, area)),
            svg.axes(area, _TIME, unit, labels),
            svg.line(area, points, "series"),
        ]
        what = f"Between {rate(min(v for _, v in points))} and {rate(highest)} {unit}."
        return svg.chart(area, f"{name} over time", what, parts)

    return _both(draw)


def _both(draw: Callable[[tuple[int, int]], str]) -> str:
    return "".join(draw(size) for size in _SIZES)


def _until(data: DemoData) -> float:
    """The end of the last stage: what drains after it belongs to no load."""
    ends = [stage.end_s for stage in data.stages]
    return max(ends or [w.start_s + w.width_s for w in data.windows] or [1.0])


def _stages(data: DemoData, area: svg.Frame) -> list[tuple[float, float, str]]:
    def label(index: int) -> str:
        stage = data.stages[index]
        short = factor(stage.factor)
        return short if area.narrow else f"{short} · {rate(stage.summary.offered_per_s)}/s"

    return [(s.start_s, s.end_s, label(i)) for i, s in enumerate(data.stages)]


def _offered(window: Window) -> float:
    return window.offered / window.width_s


def _outline(data: DemoData) -> list[tuple[float, float]]:
    """What was offered, as steps."""
    points, until = [], _until(data)
    for window in data.windows:
        if window.start_s < until:
            height, end = _offered(window), min(until, window.start_s + window.width_s)
            points += [(window.start_s, height), (end, height)]
    return points


def _bar(area: svg.Frame, window: Window) -> str:
    """One window's stack; its numbers show when pointed at."""
    if window.offered == 0 or window.start_s >= area.x.high:
        return ""
    left = area.x(window.start_s)
    width = max(0.5, area.x(window.start_s + window.width_s) - left - (0 if area.narrow else 0.6))
    parts, below = [], 0.0
    for kind in _STACK:
        height = getattr(window, kind) / window.width_s
        if height:
            top, base = area.y(below + height), area.y(below)
            shape = f'y="{top:.1f}" width="{width:.1f}" height="{base - top:.1f}"'
            parts.append(f'<rect class="fill {kind}" x="{left:.1f}" {shape}/>')
            below += height
    counts = ", ".join(f"{getattr(window, kind)} {kind}" for kind in _STACK)
    title = f"{window.start_s:g} s: {window.offered} offered: {counts}"
    return f"<g><title>{html.escape(title)}</title>{''.join(parts)}</g>"
