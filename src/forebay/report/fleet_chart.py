"""The size of the fleet over the time of a load test: asked for, ready, and missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forebay.measure import FleetSize
from forebay.report import svg
from forebay.report.load_data import LoadReport
from forebay.report.load_time import TIME, Timeline, both
from forebay.report.words import short

_HEIGHT = 178


def fleet_figure(report: LoadReport, time: Timeline) -> str:
    """The chart with its legend; "" where nothing is known of the fleet."""
    sizes = [size for size in report.fleet if 0 <= size.t <= time.until_s]
    if not sizes:
        return ""
    keys = '<span class="key ready">ready</span><span class="key asked">asked for</span>'
    if any(size.missing for size in sizes):
        keys += '<span class="key missing">what the demand asks for beyond the most allowed</span>'
    return (
        '<figure><figcaption><h3>Replicas <span class="note">seen by the server</span></h3>'
        f'<p class="legend">{keys}</p></figcaption>{_chart(sizes, time)}</figure>'
    )


def _chart(sizes: Sequence[FleetSize], time: Timeline) -> str:
    asked = [(size, size.ready if size.target is None else size.target) for size in sizes]
    top = max(max(size.ready, target + size.missing) for size, target in asked)
    ready = _steps(sizes, time.until_s, lambda size: size.ready)
    wanted = _steps(sizes, time.until_s, lambda size: size.target)
    missing = _steps(
        sizes,
        time.until_s,
        lambda size: (size.target or 0) + size.missing if size.missing else None,
    )

    def draw(area_size: tuple[int, int]) -> str:
        area = time.frame(area_size, (0.0, 1.15 * max(top, 1)))
        ticks = [tick for tick in area.y.ticks(6) if tick == int(tick)]
        parts = [
            time.bands(area),
            svg.axes(area, TIME, "replicas", [(tick, short(tick)) for tick in ticks]),
            svg.line(area, missing, "missing"),
            svg.line(area, wanted, "asked"),
            svg.line(area, ready, "ready"),
        ]
        return svg.chart(area, "Replicas over time", _said(sizes), parts)

    return both(draw, _HEIGHT)


def _steps(
    sizes: Sequence[FleetSize], until_s: float, value: Callable[[FleetSize], int | None]
) -> list[tuple[float, float | None]]:
    """Each value holds until the next was seen, the last one to the end."""
    ends = [*(size.t for size in sizes[1:]), until_s]
    return [
        point
        for size, end in zip(sizes, ends, strict=True)
        for point in ((size.t, value(size)), (end, value(size)))
    ]


def _said(sizes: Sequence[FleetSize]) -> str:
    ready = [size.ready for size in sizes]
    most = max(size.missing for size in sizes)
    beyond = f"; up to {most} more than allowed asked for" if most else ""
    return f"{ready[0]} ready at first, {max(ready)} at most, {ready[-1]} at the end{beyond}."
