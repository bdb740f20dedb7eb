"""The server's own series, on the time axis of the client's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from forebay.measure import Window
from forebay.report import svg
from forebay.report.load_data import LoadReport, ServerSample
from forebay.report.load_time import TIME, Timeline, both, thinned
from forebay.report.words import rate, short

_HEIGHT = 178
_MOST_WINDOWS = 240

_Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Chart:
    """What one chart shows; ``only_above_0`` leaves it out where all of it is 0."""

    name: str
    unit: str
    value: Callable[[ServerSample], float | None]
    only_above_0: bool = False


_CHARTS = (
    _Chart("Requests queued", "requests", lambda s: s.queued_requests),
    _Chart("Prompt tokens queued", "tokens", lambda s: s.queued_tokens),
    _Chart("Requests running", "requests", lambda s: s.running),
    _Chart("KV blocks in use", "%", lambda s: None if s.kv_usage is None else 100 * s.kv_usage),
    _Chart("Preemptions", "requests/s", lambda s: s.preemptions_per_s, only_above_0=True),
    _Chart("Prompt tokens taken in", "tokens/s", lambda s: s.prompt_tokens_per_s),
    _Chart("Output tokens generated", "tokens/s", lambda s: s.output_tokens_per_s),
    _Chart("Shed", "requests/s", lambda s: s.shed_per_s, only_above_0=True),
)


def server_charts(report: LoadReport, time: Timeline) -> list[tuple[str, str]]:
    """(heading, chart) of each series that the server told."""
    charts = []
    for wanted in _CHARTS:
        told = ((sample.t, wanted.value(sample)) for sample in report.server)
        points = _within(told, time.until_s)
        if points and (not wanted.only_above_0 or any(value > 0 for _, value in points)):
            ceiling = report.max_num_seqs if wanted.name == "Requests running" else None
            charts.append((wanted.name, _series(time, wanted.name, wanted.unit, points, ceiling)))
    return charts


def client_tokens_chart(report: LoadReport, time: Timeline) -> str:
    """Output tokens/s as they reached the client; "" when no window is known."""
    points = _within(_merged(report.windows), time.until_s)
    return _series(time, "Output tokens received", "tokens/s", points) if points else ""


def _series(
    time: Timeline, name: str, unit: str, points: _Points, ceiling: float | None = None
) -> str:
    lowest, highest = min(value for _, value in points), max(value for _, value in points)
    # Room above a limit for its label.
    top = 100.0 if unit == "%" else max(1.1 * highest, 1.3 * (ceiling or 0.0), 1.0)
    drawn = thinned(points, time.until_s)

    def draw(size: tuple[int, int]) -> str:
        area = time.frame(size, (0.0, top))
        parts = [
            time.bands(area),
            svg.axes(area, TIME, unit, [(tick, short(tick)) for tick in area.y.ticks(3)]),
            svg.line(area, drawn, "series"),
            svg.level(area, ceiling, f"max_num_seqs {ceiling:g}", "ceiling") if ceiling else "",
        ]
        what = f"Between {rate(lowest)} and {rate(highest)} {unit}."
        return svg.chart(area, f"{name} over time", what, parts)

    return both(draw, _HEIGHT)


def _within(told: Iterable[tuple[float, float | None]], until_s: float) -> _Points:
    """What is known of the time shown, in order."""
    return sorted(
        (t, value)
        for t, value in told
        if value is not None and math.isfinite(value) and 0 <= t <= until_s
    )


def _merged(windows: Sequence[Window]) -> _Points:
    """(middle, tokens/s) of neighbouring windows together, so many that no more than 240 are."""
    size = math.ceil(len(windows) / _MOST_WINDOWS) or 1
    points = []
    for first in range(0, len(windows), size):
        some = windows[first : first + size]
        lasted = sum(window.width_s for window in some)
        middle = some[0].start_s + lasted / 2
        points.append((middle, sum(window.tokens for window in some) / lasted))
    return points
