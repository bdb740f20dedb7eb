from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from forebay.demo.launch_run import FleetWatch, changes
from forebay.load.plan import Endpoint
from forebay.load.results import measure, read_decisions
from forebay.load.run import LoadPlan
from forebay.measure import FleetSize
from forebay.mock.mock_process import mock_process
from forebay.spec.workload import fixed_workload


def status(ready: int, draining: int = 0, target: int | None = None) -> dict[str, Any]:
    """What `/forebay/status` answers, as far as the size goes."""
    older = {"at": 3e9, "target": 1, "reason": "older"}
    decision = {"at": 4e9, "target": target, "reason": "tokens: asks for more"}
    return {
        "replicas": [{"draining": False}] * ready + [{"draining": True}] * draining,
        "scaling": [] if target is None else [older, decision],
        "missing": 0 if target is None else 2,
    }


def test_the_size_is_who_takes_requests_and_the_last_decision() -> None:
    size = FleetSize.told(3.0, status(ready=2, draining=1, target=4))
    assert size == FleetSize(t=3.0, ready=2, target=4, missing=2, reason="tokens: asks for more")
    assert FleetSize.told(0.0, status(ready=3)) == FleetSize(t=0.0, ready=3)


def test_only_changes_are_told_with_their_reason() -> None:
    before = FleetSize(t=1.0, ready=1, target=1)
    assert changes(before, FleetSize(t=2.0, ready=1, target=1, reason="another")) == []
    (asked,) = changes(before, FleetSize(t=7.0, ready=1, target=4, reason="prefill: 3.1"))
    assert "7 s" in asked
    assert "1 -> 4 (prefill: 3.1)" in asked
    (grown,) = changes(before, FleetSize(t=9.0, ready=2, target=1))
    assert "2 replicas ready" in grown


def test_sizes_are_told_as_they_change_and_decisions_can_be_replayed(tmp_path: Path) -> None:
    told = iter([status(ready=1, target=1), None, *[status(ready=1, target=3)] * 100])
    said: list[str] = []

    def read() -> Any:
        answer = next(told)
        if answer is None:
            raise OSError("does not answer just now")
        return answer

    with mock_process({"ttft": "1ms", "itl": "1ms"}) as mock:
        endpoint = Endpoint(url=mock.url, model="mock")
        workload = fixed_workload("short", 5, 2, stages=[(20.0, 4.0)])
        plan = LoadPlan(endpoint=endpoint, workload=workload)
        measured = measure(plan, status=read, on_size=FleetWatch(said.append).note)
    assert [size.target for size in measured.fleet[:2]] == [1, 3]
    assert len(said) == 2
    assert "1 -> 3" in said[1]
    measured.write(tmp_path / "run")
    assert read_decisions(tmp_path / "run")[-1]["target"] == 3


def test_the_runs_folder_keeps_the_sizes(tmp_path: Path) -> None:
    sizes = [FleetSize(t=0.5, ready=1, target=2, reason="tokens"), FleetSize(t=1.0, ready=2)]
    with mock_process({"ttft": "1ms", "itl": "1ms"}) as mock:
        endpoint = Endpoint(url=mock.url, model="mock")
        workload = fixed_workload("short", 5, 2, stages=[(20.0, 0.5)])
        measured = measure(LoadPlan(endpoint=endpoint, workload=workload))
    replace(measured, fleet=sizes).write(tmp_path / "run")
    kept = pq.read_table(tmp_path / "run" / "fleet.parquet").to_pylist()
    assert [FleetSize(**one) for one in kept] == sizes
    assert "<h3>Replicas" in (tmp_path / "run" / "report.html").read_text("utf-8")


def test_a_log_that_does_not_answer_just_now_is_no_change_of_the_target() -> None:
    said: list[str] = []
    watch = FleetWatch(said.append)
    for second, target in enumerate((None, 4, None, 4, None, 5)):
        watch.note(FleetSize(t=float(second), ready=4, target=target, reason="more"))
    assert said == ["   0 s  4 replicas ready", "   5 s  asked for: 4 -> 5 (more)"]
