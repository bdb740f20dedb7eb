"""The net as a test: a sample of its cells in the quick tier, all of them in the slow one."""

from dataclasses import replace

import pytest
from cells import Played, cells
from fleets import TRACE
from net import CellRun, compare, play, play_all, read_reference

SAMPLE = (
    "load demo short 3x",
    "load demo long-outputs 3x",
    "load h100-8b mix 3x",
    "neighbour demo",
    "flood h100-8b short",
    "giants l4-8b",
    "retries demo",
)


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_decides_as_recorded(name: str) -> None:
    verdict = compare(play(name), read_reference().get(name))
    assert not verdict.bad, (verdict.word, verdict.notes)


@pytest.mark.slow
def test_every_cell_decides_as_recorded() -> None:
    recorded = read_reference()
    verdicts = [compare(run, recorded.get(run.name)) for run in play_all(list(cells()), 2)]
    assert not {one.run.name: (one.word, one.notes) for one in verdicts if one.bad}


def test_every_cell_is_recorded_and_every_record_has_its_cell() -> None:
    there = [name for name in read_reference() if TRACE.exists() or name != "scaling trace"]
    assert there == list(cells())


def _run(value: float, digest: str = "a", broken: tuple[str, ...] = ()) -> CellRun:
    return CellRun("cell", (Played({"good": value}, digest, 10, broken),))


@pytest.mark.parametrize(
    ("run", "word"),
    [
        (_run(0.90), "identical"),
        (_run(0.93, "b"), "within"),
        (_run(0.80, "b"), "moved"),
        (_run(0.90, "b", ("a promise",)), "broken"),
    ],
)
def test_a_verdict_says_how_far_a_cell_is_from_its_record(run: CellRun, word: str) -> None:
    assert compare(run, _run(0.90)).word == word


def test_a_promise_that_did_not_hold_when_recorded_may_still_not_hold() -> None:
    recorded = _run(0.90, broken=("a promise",))
    assert compare(replace(recorded), recorded).word == "identical"


def test_a_cell_without_a_record_is_new() -> None:
    assert compare(_run(0.9), None).word == "new"
