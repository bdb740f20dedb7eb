"""A service's scaling decisions, as a load test stores them."""

from __future__ import annotations

import threading
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from forebay.load.results import ScalingFileError, read_decisions
from forebay.load.results.scaling_watch import ScalingWatch, write_decisions


class Service:
    """Answers with its last three decisions, one more at each look; some looks fail."""

    def __init__(self, failing: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.looks = 0
        self._failing = failing

    def __call__(self) -> Any:
        self.looks += 1
        if self.looks in self._failing:
            raise OSError("refused")
        return {"scaling": [{"at": float(at)} for at in range(self.looks - 2, self.looks + 1)]}


def test_decisions_are_kept_once_and_in_order_although_a_look_fails() -> None:
    watch = ScalingWatch(Service(failing={3, 4}))
    for _ in range(6):
        watch.look()
    assert [one["at"] for one in watch.stop()] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_decisions_before_the_run_are_left_out() -> None:
    watch = ScalingWatch(Service(), period_s=0.0)
    watch._since = 2.0
    for _ in range(4):
        watch.look()
    assert [one["at"] for one in watch.stop()] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("answer", [{}, {"scaling": []}, [], None, {"scaling": [{"no": "at"}]}])
def test_a_server_without_decisions_is_asked_no_more(answer: Any) -> None:
    looks = []

    def read() -> Any:
        looks.append(answer)
        return answer

    watch = ScalingWatch(read, period_s=0.0)
    watch.start(0.0)
    assert watch._thread is not None
    watch._thread.join(timeout=30)
    assert not watch._thread.is_alive()
    assert len(looks) == 3
    assert watch.stop() == []


def test_an_emulated_engine_is_watched_to_the_end_and_its_lateness_told() -> None:
    late = iter([0.01, 0.2, 0.03, 0.02, 0.01, 0.0])
    watch = ScalingWatch(
        lambda: {"scaling": [], "missing": 0, "replicas": [
            {"late_p99": next(late), "draining": False}, {"late_p99": None, "draining": False}]}
    )  # fmt: skip
    for _ in range(6):
        watch.look()
    assert watch.late == 0.2
    assert [size.ready for size in watch.sizes] == [2] * 6


def test_what_was_written_is_read(tmp_path: Path) -> None:
    found = [{"at": 1.5, "target": 2}, {"at": 2.5, "target": 3}]
    write_decisions(tmp_path / "scaling.jsonl", found)
    assert read_decisions(tmp_path) == found


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no scaling.jsonl"),
        ("", "is empty"),
        ('{"at": 1}\nnonsense\n', "line 2 is not JSON"),
        ("3\n", "line 1 is not a scaling decision"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "scaling.jsonl").write_text(content)
    with pytest.raises(ScalingFileError, match=said):
        read_decisions(tmp_path)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ScalingFileError, match="not a run's folder"):
        read_decisions(tmp_path / "none")


def test_looks_that_are_not_answered_say_nothing_of_the_server() -> None:
    looks = 0
    told = threading.Event()

    def read() -> Any:
        nonlocal looks
        looks += 1
        if looks <= 5:
            raise TimeoutError("the first question starts a router")
        told.set()
        return {"scaling": [{"at": 7.0}], "replicas": [], "missing": 0}

    watch = ScalingWatch(read, period_s=0.0)
    watch.start(0.0)
    assert told.wait(timeout=30)
    assert [one["at"] for one in watch.stop()] == [7.0]


@pytest.mark.parametrize(("status", "looks"), [(404, 3), (503, 10)])
def test_a_server_of_another_kind_is_not_asked_for_ever(status: int, looks: int) -> None:
    asked: list[int] = []

    def read() -> Any:
        asked.append(status)
        raise HTTPError("http://h", status, "no", Message(), None)

    watch = ScalingWatch(read, period_s=0.0)
    watch.start(0.0)
    assert watch._thread is not None
    watch._thread.join(timeout=30)
    assert len(asked) == looks
