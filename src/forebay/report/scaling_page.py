"""The page of a scaling replay: two fleets over the same demand, and where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from itertools import pairwise
from string import Template

from forebay import __version__
from forebay.report import svg
from forebay.report.load_time import both, thinned
from forebay.report.markup import Cell, table, text
from forebay.report.words import short
from forebay.simulate import Look, totals

_TIME = "seconds since the first decision"
_HEIGHT = 320
_MISSING_HEIGHT = 190
_MOST_ROWS = 200  # of changes


@dataclass(frozen=True, slots=True)
class ScalingReport:
    """What the page shows.

    Attributes:
        service: its name.
        run: the folder of the recorded run.
        settings: of the replayed policy, in words.
        looks: in order of time; two or more.
    """

    service: str
    run: str
    settings: str
    looks: Sequence[Look]

    @property
    def changes(self) -> list[Look]:
        """The looks at which either fleet's size changed."""
        pairs = pairwise(self.looks)
        return [b for a, b in pairs if (a.then[0], a.now[0]) != (b.then[0], b.now[0])]

    @property
    def seconds(self) -> float:
        """From the first look to the last."""
        return self.looks[-1].at - self.looks[0].at


def rows(report: ScalingReport) -> list[tuple[str, str, str]]:
    """The two fleets in figures: (what, then, by this file)."""
    then, now = totals(report.looks)
    return [
        ("replica-hours", f"{then.replica_hours:.2f}", f"{now.replica_hours:.2f}"),
        ("most replicas", str(then.most), str(now.most)),
        ("times grown", str(then.ups), str(now.ups)),
        ("times shrunk", str(then.downs), str(now.downs)),
        (
            "seconds with more demand than ready replicas",
            f"{then.short_s:.0f}",
            f"{now.short_s:.0f}",
        ),
        ("most replicas missing at max", str(then.missing), str(now.missing)),
    ]


def render_scaling_page(report: ScalingReport) -> str:
    """One self-contained HTML page; it loads nothing and runs nothing."""
    package = files("forebay.report")
    names = ("page.css", "load.css", "scaling.css")
    styles = (package.joinpath(name).read_text("utf-8") for name in names)
    began = datetime.fromtimestamp(report.looks[0].at, UTC)
    return Template(package.joinpath("scaling_page.html").read_text("utf-8")).substitute(
        title=text(f"Scaling of {report.service}, replayed"),
        style="\n".join(styles),
        run=text(report.run),
        settings=text(report.settings),
        began=text(f"{began:%Y-%m-%d %H:%M:%S} UTC, {report.seconds:.0f} s"),
        totals=_totals_table(report),
        replicas_chart=_replicas_chart(report),
        missing=_missing(report),
        changes=_changes_table(report),
        footer=text(f"forebay {__version__}"),
    )


def _totals_table(report: ScalingReport) -> str:
    found = [(name, [Cell(then), Cell(now)]) for name, then, now in rows(report)]
    return table("Both fleets, over the same demand", ("", "then", "by this file"), found)


def _changes_table(report: ScalingReport) -> str:
    start, changes = report.looks[0].at, report.changes
    if not changes:
        return '<p class="note">Neither fleet changed its size.</p>'
    found = [
        (
            f"{look.at - start:.0f} s",
            [
                Cell(str(look.then[0])),
                Cell(look.then_why, prose=True),
                Cell(str(look.now[0])),
                Cell(look.now_why, prose=True),
            ],
        )
        for look in changes[:_MOST_ROWS]
    ]
    heads = ("at", "then", "why", "by this file", "why, by this file")
    left = len(changes) - _MOST_ROWS
    more = f'<p class="note">{left} further changes are left out.</p>' if left > 0 else ""
    return table("Where the size changes", heads, found) + more


def _replicas_chart(report: ScalingReport) -> str:
    then = _steps(report, lambda look: look.then[0])
    now = _steps(report, lambda look: look.now[0])
    ready = _steps(report, lambda look: look.now[1])
    work = _points(report, ((look.at, look.work) for look in report.looks))
    top = 1.1 * max(value for line in (then, now, work, [(0.0, 1.0)]) for _, value in line)

    def draw(size: tuple[int, int]) -> str:
        area = svg.frame(*size, report.seconds, (0.0, top))
        parts = [
            svg.axes(area, _TIME, "replicas", [(tick, short(tick)) for tick in area.y.ticks(5)]),
            svg.line(area, thinned(work, report.seconds), "work"),
            svg.line(area, then, "then"),
            svg.line(area, ready, "ready"),
            svg.line(area, now, "now"),
        ]
        most = max(value for _, value in now)
        what = f"Up to {most:g} replicas by this file, {max(v for _, v in then):g} then."
        return svg.chart(area, "Replicas over time", what, parts)

    return both(draw, _HEIGHT)


def _missing(report: ScalingReport) -> str:
    """The chart of missing replicas; a sentence where none are."""
    then = _steps(report, lambda look: look.then[2])
    now = _steps(report, lambda look: look.now[2])
    top = max(value for line in (then, now) for _, value in line)
    if not top:
        return '<p class="note">At no time did max withhold a replica.</p>'

    def draw(size: tuple[int, int]) -> str:
        area = svg.frame(*size, report.seconds, (0.0, 1.1 * top))
        parts = [
            svg.axes(area, _TIME, "replicas", [(tick, short(tick)) for tick in area.y.ticks(3)]),
            svg.line(area, then, "then"),
            svg.line(area, now, "now"),
        ]
        return svg.chart(area, "Missing replicas over time", f"Up to {top:g}.", parts)

    caption = "<figcaption><h3>Replicas that max withheld</h3></figcaption>"
    return f"<figure>{caption}{both(draw, _MISSING_HEIGHT)}</figure>"


def _steps(report: ScalingReport, of: Callable[[Look], int]) -> list[tuple[float, float]]:
    """A figure that stays until it changes, as corners of a line."""
    start, last = report.looks[0].at, report.looks[-1].at
    corners: list[tuple[float, float]] = []
    for look in report.looks:
        value = float(of(look))
        if not corners:
            corners.append((0.0, value))
        elif value != corners[-1][1]:
            corners += [(look.at - start, corners[-1][1]), (look.at - start, value)]
    return [*corners, (last - start, corners[-1][1])]


def _points(
    report: ScalingReport, told: Iterable[tuple[float, float | None]]
) -> list[tuple[float, float]]:
    start = report.looks[0].at
    return [(at - start, value) for at, value in told if value is not None]
