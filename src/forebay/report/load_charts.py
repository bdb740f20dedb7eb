"""A load test over time: what became of the requests, and how long they waited."""

from __future__ import annotations

import html

import numpy as np
from numpy.typing import NDArray

from forebay.measure.percentiles import percentiles
from forebay.report import svg
from forebay.report.load_columns import CATEGORIES, Columns
from forebay.report.load_data import LoadReport
from forebay.report.load_time import TIME, Timeline, both, highest, places
from forebay.report.words import limit, seconds, short

# The p99 of fewer requests is the slowest of them, and says nothing about the next.
_PER_QUANTILE = 20
# Enough for a bar to be a rate rather than a request.
_PER_BAR = 5
_SHORTEST_S = 1e-4
_Series = list[tuple[float, float | None, float | None, float | None]]


def requests_chart(columns: Columns, time: Timeline) -> str:
    """Requests per second by what became of them, stacked up to what was offered."""
    edges = time.edges(len(columns), _PER_BAR)
    bins = len(edges) - 1
    where = places(columns.at, edges)
    counts = np.bincount(
        columns.category.astype(np.int64) * bins + where, minlength=bins * len(CATEGORIES)
    ).reshape(len(CATEGORIES), bins)
    admitted = np.bincount(where[columns.admitted], minlength=bins) / np.diff(edges)
    offered = counts.sum(axis=0) / np.diff(edges)

    def draw(size: tuple[int, int]) -> str:
        area = time.frame(size, (0.0, 1.08 * max(1.0, float(offered.max()))))
        labels = [(tick, short(tick)) for tick in area.y.ticks(4)]
        parts = [
            time.bands(area),
            svg.axes(area, TIME, "requests/s", labels),
            *_bars(area, edges, counts),
            svg.line(area, _steps(edges, offered), "offered"),
            svg.line(area, _steps(edges, admitted), "admitted"),
        ]
        what = f"Stacked: {', '.join(_counted(columns))} of {len(columns):,} offered."
        return svg.chart(area, "Requests per second over time", what, parts)

    return both(draw)


def ttft_chart(report: LoadReport, columns: Columns, time: Timeline) -> str:
    """Time to first token on a log scale: percentiles of bins, the slowest requests, the SLO."""
    timed = columns.pick(~np.isnan(columns.ttft))
    edges = time.edges(len(timed), _PER_QUANTILE)
    series = _quantiles(timed, edges)
    marks = _marks(timed, time)
    shed = columns.at[columns.of("shed")]
    failed = columns.at[columns.of("failed")]
    low, high = _range(timed.ttft, report.slo_ttft_s)

    def draw(size: tuple[int, int]) -> str:
        area = time.frame(size, (low / 1.3, high * 2.5), log=True)
        labels = [(tick, limit(tick)) for tick in area.y.ticks(4)]
        parts = [
            time.bands(area),
            svg.axes(area, TIME, "time to first token (log scale)", labels),
            svg.fan(area, [(t, p50, p95) for t, p50, p95, _ in series], "to-p95"),
            svg.fan(area, [(t, p95, p99) for t, _, p95, p99 in series], "to-p99"),
            *(
                svg.line(area, [(point[0], point[n]) for point in series], kind)
                for n, kind in ((1, "p50"), (2, "p95"), (3, "p99"))
            ),
            svg.rug(area, shed.tolist(), "shed"),
            svg.rug(area, failed.tolist(), "failed", row=1),
            svg.dots(area, marks["good"], "good"),
            svg.crosses(area, marks["late"], "late"),
            svg.squares(area, marks["left"], "left"),
            svg.triangles(area, marks["failed"], "failed"),
            svg.level(area, report.slo_ttft_s, f"SLO {limit(report.slo_ttft_s)}", "slo"),
        ]
        return svg.chart(area, "Time to first token over time", _spoken(timed, shed, failed), parts)

    return both(draw)


def bin_words(columns: Columns, time: Timeline) -> str:
    """How wide the bins of the percentiles are, in words."""
    edges = time.edges(int(np.count_nonzero(~np.isnan(columns.ttft))), _PER_QUANTILE)
    return limit(float(edges[1] - edges[0]))


def _bars(area: svg.Frame, edges: NDArray[np.float64], counts: NDArray[np.int64]) -> list[str]:
    """The stacked categories, one path each; what they hold shows when a bin is pointed at."""
    ends = area.x.start + edges / area.x.high * (area.x.end - area.x.start)
    gap = 0.0 if area.narrow else 0.6
    heights = np.vstack([np.zeros(len(edges) - 1), counts.cumsum(axis=0) / np.diff(edges)])
    paths = dict.fromkeys(CATEGORIES, "")
    titles = []
    for n in range(len(edges) - 1):
        left, width = float(ends[n]), max(0.5, float(ends[n + 1] - ends[n]) - gap)
        for row, kind in enumerate(CATEGORIES):
            if counts[row, n]:
                base, top = area.y(float(heights[row, n])), area.y(float(heights[row + 1, n]))
                paths[kind] += f"M{left:.1f} {base:.1f}V{top:.1f}h{width:.1f}V{base:.1f}z"
        if not area.narrow:
            titles.append(_title(area, left, width, _said(float(edges[n]), counts[:, n])))
    drawn = [f'<path class="fill {kind}" d="{path}"/>' for kind, path in paths.items() if path]
    return [*drawn, *titles]


def _title(area: svg.Frame, left: float, width: float, said: str) -> str:
    """An unseen bar over the whole height, with words."""
    top, base = area.y.end, area.y.start
    shape = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{base - top:.1f}"'
    return f'<rect class="hit" {shape}><title>{html.escape(said)}</title></rect>'


def _said(at: float, counts: NDArray[np.int64]) -> str:
    named = zip(CATEGORIES, counts.tolist(), strict=True)
    kinds = ", ".join(f"{count} {kind}" for kind, count in named if count)
    return f"{at:g} s: {int(counts.sum())} offered{': ' if kinds else ''}{kinds}"


def _steps(
    edges: NDArray[np.float64], heights: NDArray[np.float64]
) -> list[tuple[float, float | None]]:
    points: list[tuple[float, float | None]] = []
    for n, height in enumerate(heights.tolist()):
        points += [(float(edges[n]), height), (float(edges[n + 1]), height)]
    return points


def _quantiles(timed: Columns, edges: NDArray[np.float64]) -> _Series:
    """(middle, p50, p95, p99) of each bin."""
    where = places(timed.at, edges)
    order = np.argsort(where, kind="stable")
    cuts = np.searchsorted(where[order], np.arange(len(edges)))
    series: _Series = []
    for n in range(len(edges) - 1):
        values = timed.ttft[order[cuts[n] : cuts[n + 1]]].tolist()
        p50, p95, p99 = percentiles(values, (50, 95, 99))
        series.append((float(edges[n] + edges[n + 1]) / 2, p50, p95, p99))
    return series


def _marks(timed: Columns, time: Timeline) -> dict[str, list[tuple[float, float]]]:
    """The slowest request of each stretch, or all of a few, by category."""
    chosen = timed.pick(highest(timed.at, timed.ttft, time.until_s))
    marks = {}
    for kind in CATEGORIES:
        mine = chosen.pick(chosen.of(kind))
        marks[kind] = list(zip(mine.at.tolist(), mine.ttft.tolist(), strict=True))
    return marks


def _range(ttft: NDArray[np.float64], slo_s: float) -> tuple[float, float]:
    """Lowest and highest TTFT to show: the SLO and a decade at least."""
    low, high = slo_s / 10, slo_s
    if len(ttft):
        low, high = min(low, float(ttft.min())), max(high, float(ttft.max()))
    return max(low, _SHORTEST_S), max(high, 10 * _SHORTEST_S)


def _spoken(timed: Columns, shed: NDArray[np.float64], failed: NDArray[np.float64]) -> str:
    p50, p95, p99 = percentiles(timed.ttft.tolist(), (50, 95, 99))
    return (
        f"{len(timed):,} requests with a first token: p50 {seconds(p50)}, p95 {seconds(p95)}, "
        f"p99 {seconds(p99)}. Along the top, {len(shed):,} shed and {len(failed):,} failed."
    )


def _counted(columns: Columns) -> list[str]:
    return [f"{columns.count(kind):,} {kind}" for kind in CATEGORIES]
