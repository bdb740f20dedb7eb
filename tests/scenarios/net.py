"""Plays cells, and compares them with what was recorded.

A cell is *identical* if every decision on every seed is the recorded one. It is *within* if each
figure's mean lies in the interval that the recorded seeds span, widened by a margin. Else it is
*moved*. A promise that held when it was recorded, and does not now, is *broken*.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from cells import Played, cells

REFERENCE = Path(__file__).with_name("reference.json")
MARGIN, LEAST = 0.05, 0.01  # of a figure's value; of a share or a second


@dataclass(frozen=True)
class CellRun:
    """A cell on all of its seeds.

    Attributes:
        name: of the cell.
        seeds: what came of each seed, in order.
        seconds: of one core.
    """

    name: str
    seeds: tuple[Played, ...]
    seconds: float = 0.0

    @property
    def decisions(self) -> int:
        """Requests decided on, over all seeds."""
        return sum(played.decisions for played in self.seeds)

    def values(self, figure: str) -> list[float]:
        """One figure, by seed."""
        return [played.figures[figure] for played in self.seeds]


@dataclass(frozen=True)
class Verdict:
    """How a cell compares with what was recorded of it."""

    run: CellRun
    word: str
    notes: tuple[str, ...] = ()

    @property
    def bad(self) -> bool:
        """Whether somebody should look at it."""
        return self.word not in ("identical", "within")


def play(name: str) -> CellRun:
    """Play one cell on each of its seeds."""
    cell, seeds = cells()[name]
    began = time.process_time()
    played = tuple(cell(seed) for seed in range(1, seeds + 1))
    return CellRun(name, played, time.process_time() - began)


def play_all(names: Sequence[str], jobs: int) -> Iterator[CellRun]:
    """Play cells, `jobs` at a time; each is given as it ends."""
    if jobs == 1:
        yield from map(play, names)
        return
    with ProcessPoolExecutor(jobs) as pool:
        due = [pool.submit(play, name) for name in sorted(names, key=_slow_first)]
        try:
            for done in as_completed(due):
                yield done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _slow_first(name: str) -> tuple[bool, str]:
    return not name.startswith(("scaling", "conversations", "quota")), name


def compare(run: CellRun, recorded: CellRun | None) -> Verdict:
    """Say how a cell compares; None: it was never recorded."""
    if recorded is None:
        return Verdict(run, "new")
    notes = [text for played in run.seeds for text in played.broken]
    known = [text for played in recorded.seeds for text in played.broken]
    if notes and not known:
        return Verdict(run, "broken", tuple(notes))
    if [one.digest for one in run.seeds] == [one.digest for one in recorded.seeds]:
        return Verdict(run, "identical")
    moved = tuple(_outside(run, recorded))
    return Verdict(run, "moved" if moved else "within", moved)


def _outside(run: CellRun, recorded: CellRun) -> Iterator[str]:
    for figure in recorded.seeds[0].figures:
        if figure not in run.seeds[0].figures:
            yield f"{figure} is not there"
            continue
        low, high = interval(recorded.values(figure))
        value = fmean(run.values(figure))
        if not low <= value <= high:
            yield f"{figure} {value:.4g}, recorded {low:.4g} to {high:.4g}"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """What a mean may be, by the values of the recorded seeds."""
    margin = max(MARGIN * max(map(abs, values)), LEAST)
    return min(values) - margin, max(values) + margin


def read_reference(path: Path = REFERENCE) -> dict[str, CellRun]:
    """Cells as they were recorded, by name; none where there is no such file."""
    if not path.exists():
        return {}
    return {name: _cell(name, seeds) for name, seeds in json.loads(path.read_text()).items()}


def _cell(name: str, seeds: Sequence[Mapping[str, object]]) -> CellRun:
    played = [Played(**{**seed, "broken": tuple(seed["broken"])}) for seed in seeds]  # type: ignore[arg-type]
    return CellRun(name, tuple(played))


def record(runs: Sequence[CellRun], path: Path = REFERENCE) -> None:
    """Write cells down; those that were not played stay as they are."""
    kept = {**read_reference(path), **{run.name: run for run in runs}}
    known = [name for name in cells() if name in kept]
    rows = [f'"{name}": {json.dumps([asdict(one) for one in kept[name].seeds])}' for name in known]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")
