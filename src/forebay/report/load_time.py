"""The time axis that a load test's charts share, and the thinning of what is drawn along it.

A page of 100,000 requests must stay a page: everything is drawn with at most a few marks per
pixel, chosen so that no extreme is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forebay.report import svg
from forebay.report.load_columns import Columns
from forebay.report.load_data import LoadReport, LoadStage

TIME = "seconds since the load began"
_SIZES = ((960, 300), (390, 260))
_MOST_BINS = 100  # about 9 pixels each on a wide page
_CELLS = 240  # a mark every 4 pixels
_CHARACTER = 6.6  # pixels, of the 12 px labels of stages


@dataclass(frozen=True, slots=True)
class Timeline:
    """Seconds 0 to ``until_s``, with the stages of the load."""

    until_s: float
    stages: Sequence[LoadStage] = ()

    def frame(
        self, size: tuple[int, int], y: tuple[float, float], *, log: bool = False
    ) -> svg.Frame:
        """A plot area over this time."""
        return svg.frame(*size, self.until_s, y, log=log)

    def bands(self, area: svg.Frame) -> str:
        """The stages, each labelled where its label fits."""
        spans = []
        for stage in self.stages:
            room = area.x(stage.end_s) - area.x(stage.start_s)
            fits = [text for text in stage_names(stage) if _CHARACTER * len(text) <= room]
            spans.append((stage.start_s, stage.end_s, fits[0] if fits else ""))
        return svg.bands(area, spans)

    def edges(self, count: int, per_bin: int) -> NDArray[np.float64]:
        """Bounds of bins of a round width, for ``count`` requests; the last may be wider.

        At most 100 bins, and on average at least ``per_bin`` requests in each.
        """
        rough = max(1 / _MOST_BINS, per_bin / max(1, count)) * self.until_s
        width = svg.nice_step(rough)
        bins = max(1, int(self.until_s / width + 1e-9))
        return np.append(np.arange(bins) * width, self.until_s)


def timeline(report: LoadReport, columns: Columns) -> Timeline:
    """From second 0 until the load ended; what drains after it belongs to no load."""
    ends = [report.duration_s, *(stage.end_s for stage in report.stages), 1.0]
    if len(columns):
        ends.append(float(columns.at.max()))
    return Timeline(max(ends), report.stages)


def stage_names(stage: LoadStage) -> list[str]:
    """Its name with its rate, and shorter forms."""
    rate = "" if stage.rate is None else f"{stage.rate:g}/s"
    asked = [rate] if rate and rate != stage.label else []  # a constant one is called so
    return list(dict.fromkeys([" · ".join([stage.label, *asked]), *asked, stage.label]))


def both(draw: Callable[[tuple[int, int]], str], height: int | None = None) -> str:
    """A chart drawn for a wide page and for a phone."""
    return "".join(draw((width, height or usual)) for width, usual in _SIZES)


def places(at: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each time; what lies outside goes to the outermost."""
    found = np.searchsorted(edges, at, side="right") - 1
    return np.clip(found, 0, len(edges) - 2).astype(np.int64)


def highest(
    at: NDArray[np.float64], values: NDArray[np.float64], until_s: float
) -> NDArray[np.bool_]:
    """Which are the highest of each of 240 cells of time; all of a few."""
    if len(at) <= 2 * _CELLS:
        return np.ones(len(at), np.bool_)
    cells = places(at, np.linspace(0.0, until_s, _CELLS + 1))
    order = np.lexsort((values, cells))
    last = np.append(np.flatnonzero(np.diff(cells[order])), len(order) - 1)
    chosen = np.zeros(len(at), np.bool_)
    chosen[order[last]] = True
    return chosen


def thinned(points: Sequence[tuple[float, float]], until_s: float) -> list[tuple[float, float]]:
    """A series in order of time, with the lowest and the highest point of each of 240 cells."""
    at, values = np.array(points, np.float64).reshape(-1, 2).T
    chosen = highest(at, values, until_s) | highest(at, -values, until_s)
    return list(zip(at[chosen].tolist(), values[chosen].tolist(), strict=True))
