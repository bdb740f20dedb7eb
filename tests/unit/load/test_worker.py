"""The worker as its users start it: a process, JSON in, JSON lines out."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mock_endpoint import GOOD, Endpoint, Reply, endpoint

from forebay.load.spec import RequestFactory, WorkerSpec
from forebay.measure.records import RequestRecord


def plan(**changes: Any) -> dict[str, Any]:
    values = {"url": "http://h:1", "model": "demo", "stages": [[50, 0.4]], "realtime": False}
    return values | changes


async def start(values: dict[str, Any]) -> Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "forebay.load.worker"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(values).encode())
    process.stdin.close()
    return process


async def finish(process: Process) -> list[dict[str, Any]]:
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    return [json.loads(line) for line in output.splitlines()]


def written(folder: Path) -> list[RequestRecord]:
    lines = (folder / "r.jsonl").read_text("utf-8").splitlines()
    return [RequestRecord.from_dict(json.loads(line)) for line in lines]


def bodies(server: Endpoint) -> list[dict[str, Any]]:
    return [json.loads(request) for request in server.requests]


async def test_an_open_loop_writes_records_and_summary(tmp_path: Path) -> None:
    files = {"records": str(tmp_path / "r.jsonl"), "summary": str(tmp_path / "s.json")}
    async with endpoint(lambda _: GOOD) as server:
        lines = await finish(await start(plan(url=server.url, prompt_tokens=9, **files)))
    result, records = lines[-1], written(tmp_path)
    assert json.loads((tmp_path / "s.json").read_bytes()) == result
    assert result["summary"]["offered"] == result["client"]["planned"] == len(records) > 0
    assert {record.outcome for record in records} == {"ok"}
    assert result["client"]["realtime_reason"] == "not asked for"
    for body in bodies(server):
        assert len(body["prompt"]) == 9
        assert (body["max_tokens"], body["ignore_eos"], body["stream"]) == (48, True, True)


async def test_a_closed_loop_runs_its_time() -> None:
    async with endpoint(lambda _: GOOD) as server:
        values = plan(url=server.url, mode="closed", clients=2, duration_s=0.3)
        result = (await finish(await start(values)))[-1]
    assert result["client"]["planned"] is None
    assert result["summary"]["duration_s"] == 0.3
    assert 0 < result["summary"]["offered"] <= len(server.requests)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_what_was_measured(number: signal.Signals) -> None:
    async with endpoint(lambda n: GOOD if n == 0 else Reply((), "hang")) as server:
        process = await start(plan(url=server.url, stages=[[3, 3600]]))
        assert process.stdout is not None
        first = json.loads(await process.stdout.readline())
        process.send_signal(number)
        result = (await finish(process))[-1]
    assert first["offered"] == first["ok"] + first["in_flight"]
    assert result["client"]["interrupted"] is True
    assert result["summary"]["offered"] < result["client"]["planned"]
    assert result["summary"]["duration_s"] < 3600
    assert result["summary"]["failed"] == 0  # what the client itself gave up is not a failure


async def test_a_wrong_plan_is_refused_in_one_line() -> None:
    process = await start(plan(colour="red"))
    output, errors = await process.communicate()
    assert (process.returncode, output) == (2, b"")
    assert errors.decode() == "forebay.load.worker: unknown key in the plan: colour\n"


async def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    async with endpoint(lambda _: GOOD) as server:
        values = plan(url=server.url, records=str(tmp_path / "no" / "r"), stages=[[50, 0.1]])
        process = await start(values)
        _, errors = await process.communicate()
    assert process.returncode == 3
    assert b"No such file" in errors


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"url": "nowhere"}, "URL"),
        ({"mode": "ajar"}, "mode"),
        ({"stages": []}, "stages"),
        ({"stages": [[1]]}, "plan"),
        ({"stages": [[-1, 5]]}, "stage"),
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"clients": "many"}, "plan"),
    ],
)
def test_impossible_plans_are_refused(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(ValueError, match=names):
        WorkerSpec.parse(json.dumps(plan(**changes)))


@pytest.mark.parametrize("text", ["", "[]", '{"url": "http://h"}'])
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|object|model"):
        WorkerSpec.parse(text)


def test_chat_paths_get_messages() -> None:
    spec = WorkerSpec.parse(json.dumps(plan(path="/v1/chat/completions", ignore_eos=False)))
    body = json.loads(RequestFactory(spec, np.random.default_rng(0)).request().body)
    assert body["messages"][0]["role"] == "user"
    assert "prompt" not in body
    assert "ignore_eos" not in body


def test_a_plan_makes_the_same_schedule_twice() -> None:
    spec = WorkerSpec.parse(json.dumps(plan(seed=4)))
    first, second = (RequestFactory(spec, np.random.default_rng(4)).schedule() for _ in range(2))
    assert first == second


async def test_cores_that_do_not_exist_are_refused() -> None:
    process = await start(plan(cores=[100_000]))
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert errors.startswith(b"forebay.load.worker:")
