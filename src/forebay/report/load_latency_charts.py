"""How latencies are distributed, and what they cost in throughput from stage to stage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forebay.measure import percentile
from forebay.report import svg
from forebay.report.load_columns import Columns, quantiles
from forebay.report.load_data import LoadReport, LoadStage
from forebay.report.load_figures import of_stage
from forebay.report.load_time import both
from forebay.report.words import limit, rate, seconds

_PANEL = (330, 280)
_SHOWN = (50, 95, 99)
_STEPS = 150
_SHORTEST_S = 1e-4
_SIDES: tuple[svg.Side, ...] = ("above", "right", "left", "below")
_LABEL_PX = 44.0  # what a tick label of the x axis takes

_Box = tuple[float, float, float, float]


def distribution_charts(report: LoadReport, columns: Columns) -> list[tuple[str, str]]:
    """(heading, chart) of TTFT, TPOT and E2E: which share of requests was slower than x."""
    latencies = (
        ("TTFT", "time to first token", columns.ttft, report.slo_ttft_s),
        ("TPOT", "time per output token", columns.tpot, report.slo_tpot_s),
        ("E2E", "whole answer", columns.e2e[columns.finished], None),
    )
    charts = []
    for name, long_name, values, slo_s in latencies:
        known = np.sort(values[~np.isnan(values)])
        if len(known):
            charts.append((name, _panel(name, long_name, known, slo_s)))
    return charts


def trade_off_chart(report: LoadReport, columns: Columns) -> str:
    """TTFT against finished requests/s, a point per stage, joined in order; "" below 2 stages."""
    points = [p for stage in report.stages if (p := _point(stage, columns)) is not None]
    if len(points) < 2:
        return ""
    slo_s = report.slo_ttft_s
    low = min(slo_s / 10, *(p50 for _, _, p50, _ in points))
    high = max(slo_s, *(p99 for _, _, _, p99 in points))
    most = max(served for _, served, _, _ in points)

    def draw(size: tuple[int, int]) -> str:
        y = (max(low / 1.5, _SHORTEST_S), max(high * 2, 10 * _SHORTEST_S))
        area = svg.plot(*size, (0.0, 1.15 * max(most, 0.1)), y, y_log=True)
        labels = [(tick, limit(tick)) for tick in area.y.ticks(4)]
        p50s = [(served, p50) for _, served, p50, _ in points]
        p99s = [(served, p99) for _, served, _, p99 in points]
        parts = [
            svg.axes(area, "finished requests/s", "time to first token (log scale)", labels),
            svg.line(area, p50s, "p50"),
            svg.squares(area, p50s, "p50"),
            svg.line(area, p99s, "p99"),
            svg.triangles(area, p99s, "p99"),
            svg.level(area, slo_s, f"SLO {limit(slo_s)}", "slo", at_end=False),
            *_labels(area, [(served, p99, name) for name, served, _, p99 in points]),
        ]
        said = (f"{name}: {rate(x)}/s, p99 {seconds(p99)}" for name, x, _, p99 in points)
        what = f"{len(points)} stages. {'; '.join(said)}."
        return svg.chart(area, "Time to first token against throughput", what, parts)

    return both(draw)


def _panel(name: str, long_name: str, known: NDArray[np.float64], slo_s: float | None) -> str:
    at = [(q, _quantile(known, q)) for q in _SHOWN]
    ends = [float(known[0]), float(known[-1]), *([slo_s] if slo_s else [])]
    low, high = max(min(ends), _SHORTEST_S) / 1.3, max(*ends, _SHORTEST_S) * 1.3
    if high < 10 * low:
        low, high = low / 2, max(high, 5 * low)
    least = max(1e-4, min(0.005, 0.5 / len(known)))
    area = svg.plot(*_PANEL, (low, high), (least, 1.0), x_log=True, y_log=True, top=32)
    parts = [
        svg.axes(
            area,
            f"{long_name} (log scale)",
            "share of requests slower",
            [(tick, f"{100 * tick:g} %") for tick in area.y.ticks(4)],
            _spaced(area),
        ),
        svg.line(area, _slower(known), "survival"),
        *(_reading(area, q, value) for q, value in at),
        svg.upright(area, slo_s, f"SLO {limit(slo_s)}", "slo") if slo_s else "",
    ]
    read = ", ".join(f"p{q} {seconds(value)}" for q, value in at)
    what = f"{len(known):,} requests: {read}."
    return svg.chart(area, f"Distribution of {name}", what, parts, "panel")


def _slower(known: NDArray[np.float64]) -> list[tuple[float, float | None]]:
    """The share of ``known`` (sorted) above each value as steps, finest where the tail is."""
    count = len(known)
    left = np.unique(np.geomspace(1, count, _STEPS).round().astype(np.int64))[::-1]
    at = float(known[0])
    steps: list[tuple[float, float | None]] = []
    for many in left.tolist():  # so many are no smaller than `value`, all of them above `at`
        value = float(known[count - many])
        steps += [(at, many / count), (value, many / count)]
        at = value
    return [*steps, (at, 0.0)]


def _reading(area: svg.Frame, q: int, value: float) -> str:
    """A percentile read off the curve: a guide from the axis, a point, its value."""
    share = 1 - q / 100
    text = f"p{q} {seconds(value)}"
    # Right of a falling curve nothing is drawn; left of it the guide is, and the label under it.
    room = area.x.end - area.x(value)
    side: svg.Side = "right" if room > 8.5 * len(text) else "left"
    return (
        svg.line(area, [(area.x.low, share), (value, share)], "guide")
        + svg.squares(area, [(value, share)], "at")
        + svg.label(area, value, share, text, "reading", side, drop=-4 if side == "right" else 9)
    )


def _spaced(area: svg.Frame) -> list[tuple[float, str]]:
    """Labels of the x axis, decades first, none on top of another."""
    chosen: list[float] = []
    for value in sorted(area.x.ticks(4), key=lambda tick: (not _is_decade(tick), tick)):
        if all(abs(area.x(value) - area.x(other)) >= _LABEL_PX for other in chosen):
            chosen.append(value)
    return [(value, limit(value)) for value in sorted(chosen)]


def _is_decade(value: float) -> bool:
    return float(np.log10(value)).is_integer()


def _point(stage: LoadStage, columns: Columns) -> tuple[str, float, float, float] | None:
    """(label, finished requests/s, TTFT p50, TTFT p99) of a stage, if any token came in it."""
    chosen = of_stage(stage, columns)
    p50, p99 = quantiles(chosen.ttft, (50, 99))
    lasted = stage.end_s - stage.start_s
    if p50 is None or p99 is None or not lasted > 0:
        return None
    name = f"{rate(len(chosen) / lasted)}/s offered"
    served = int(np.count_nonzero(chosen.finished)) / lasted
    return name, served, max(p50, _SHORTEST_S), max(p99, _SHORTEST_S)


def _labels(area: svg.Frame, points: Sequence[tuple[float, float, str]]) -> list[str]:
    """Each point's label, on the first side of it where it covers no other label nor a point."""
    labels: list[str] = []
    taken = [(area.x(x) - 4, area.x(x) + 4, area.y(y) - 5, area.y(y) + 4) for x, y, _ in points]
    for x, y, name in points:
        text = name.removesuffix(" offered") if area.narrow else name
        boxes = {side: _box(area.x(x), area.y(y), text, side) for side in _SIDES}
        free = [side for side in _SIDES if _is_free(area, boxes[side], taken)]
        side = free[0] if free else _SIDES[0]
        taken.append(boxes[side])
        labels.append(svg.label(area, x, y, text, "reading", side))
    return labels


def _box(x: float, y: float, text: str, side: svg.Side) -> _Box:
    """(left, right, top, bottom) in pixels of a label beside a point."""
    width = 7.2 * len(text)
    left = {"right": x + 7, "left": x - 7 - width}.get(side, x - width / 2)
    base = y + {"above": -8, "below": 17}.get(side, 4)
    return left, left + width, base - 10, base + 2


def _is_free(area: svg.Frame, box: _Box, taken: Sequence[_Box]) -> bool:
    left, right, top, bottom = box
    within = left > area.x.start and right < area.width and top > 14 and bottom < area.y.start
    return within and all(
        right < other[0] or left > other[1] or bottom < other[2] or top > other[3]
        for other in taken
    )


def _quantile(known: NDArray[np.float64], q: int) -> float:
    value = percentile(known.tolist(), q)
    assert value is not None
    return value
