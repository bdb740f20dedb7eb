"""Worker processes as a run uses them: orders in, records out."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from dataclasses import replace
from typing import Any

import pytest
from mock_endpoint import GOOD, Endpoint, Reply, endpoint, plain

from forebay.load.plan import Endpoint as Target
from forebay.load.plan import WorkerPlan
from forebay.load.plan.request_bodies import CompletionsBodies
from forebay.load.run import LoadPlan, LoadRun, Shard, run_load, workers
from forebay.spec.workload import fixed_workload


def plan(url: str, **more: Any) -> LoadPlan:
    workload = {"stages": [(50.0, 0.4)], **more.pop("workload", {})}
    return LoadPlan(
        endpoint=Target(url=url, model="demo"),
        workload=fixed_workload("w", 9, 4, **workload),
        **{"realtime": False, **more},
    )


async def run(server: Endpoint, **more: Any) -> LoadRun:
    return await asyncio.to_thread(run_load, plan(server.url, **more))


async def test_an_open_loop_is_played_and_merged_in_order() -> None:
    async with endpoint(lambda _: GOOD) as server:
        found = await run(server)
    assert found.summary.offered == found.client.planned == len(server.requests) > 0
    assert found.summary.outcomes == {"ok": found.summary.offered}
    assert [record.index for record in found.records] == list(range(len(found.records)))
    intended = [record.intended_s for record in found.records]
    assert intended == sorted(intended)
    assert found.client.realtime_reason == "not asked for"
    for body in (json.loads(request) for request in server.requests):
        assert len(body["prompt"]) == 9
        assert (body["max_tokens"], body["ignore_eos"], body["stream"]) == (4, True, True)


async def test_a_server_that_hangs_fails_a_closed_loop() -> None:
    async with endpoint(lambda n: GOOD if n < 5 else Reply(then="hang")) as server:
        loop = {"stages": (), "clients": 2, "seconds": 0.3}
        found = await run(server, workload=loop, timeout_s=0.5)
    assert found.summary.outcomes["timeout"] == 2  # each after the loop's own end
    assert found.summary.failed == 2


async def test_a_worker_that_complains_of_every_request_does_not_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than a pipe holds; what it says is told where it ends without a result."""
    shout = "import sys; sys.stderr.write('no ' * 100_000); sys.exit(1)"
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **more: popen([command[0], "-c", shout], **more)
    )
    with pytest.raises(workers.WorkerFailedError, match="no no no"):
        await asyncio.to_thread(run_load, plan("http://127.0.0.1:1"))


async def test_several_workers_play_the_schedule_of_one() -> None:
    async with endpoint(lambda _: GOOD) as server:
        alone = await run(server, salt="s")
        bodies = sorted(server.requests)
        server.requests.clear()
        shared = await run(server, salt="s", workers=3)
    assert sorted(server.requests) == bodies
    assert shared.client.workers == 3
    assert [r.intended_s for r in shared.records] == pytest.approx(
        [r.intended_s for r in alone.records], abs=1e-4
    )
    assert [r.session for r in shared.records] == [r.session for r in alone.records]


async def test_every_run_has_other_prompts_unless_its_salt_is_given() -> None:
    async with endpoint(lambda _: GOOD) as server:
        await run(server)
        first = set(server.requests)
        server.requests.clear()
        await run(server)
    assert first.isdisjoint(server.requests)


async def test_a_closed_loop_runs_its_time_and_its_tail_is_not_counted() -> None:
    async with endpoint(lambda _: GOOD) as server:
        found = await run(server, workload={"stages": (), "clients": 2, "seconds": 1.0})
    assert found.client.planned is None
    assert found.duration_s == 1.0
    assert 0 < found.summary.offered <= len(server.requests)
    assert all(record.ended_s <= 1.0 for record in found.counted)


async def test_retries_are_counted_beside_what_was_offered() -> None:
    refusal = Reply(plain(429, b"", "retry-after-ms: 1"))
    async with endpoint(lambda n: refusal if n == 0 else GOOD) as server:
        found = await run(server, attempts=2)
    assert (found.summary.retried, found.summary.shed) == (1, 0)
    assert len(server.requests) == found.summary.offered + 1


_INTERRUPTED = """
import os, pickle, signal, sys
from forebay.load.run.runner import run_load
sent = []
def tick(progress):
    if not sent:
        sent.append(progress)
        os.kill(os.getpid(), signal.SIGINT)
plan = pickle.load(sys.stdin.buffer)
pickle.dump(run_load(plan, tick), sys.stdout.buffer)
"""


async def interrupted(order: LoadPlan) -> LoadRun:
    """The run in the main thread of a process of its own, which gets Ctrl-C after a second."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _INTERRUPTED, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate(pickle.dumps(order))
    assert process.returncode == 0, errors.decode()
    found: LoadRun = pickle.loads(output)
    return found


async def test_an_interrupt_ends_it_with_what_was_measured() -> None:
    async with endpoint(lambda n: GOOD if n == 0 else Reply((), "hang")) as server:
        found = await interrupted(plan(server.url, workload={"stages": [(5.0, 3600.0)]}))
    assert found.client.interrupted
    assert found.summary.offered < (found.client.planned or 0)
    assert set(found.summary.outcomes) <= {"ok", "stopped"}
    assert found.summary.failed == 0  # what the client itself gave up is not a failure
    assert found.duration_s < 3600


async def test_a_closed_loop_has_no_more_workers_than_clients() -> None:
    async with endpoint(lambda _: GOOD) as server:
        closed = {"stages": (), "clients": 1, "seconds": 0.3}
        found = await run(server, workload=closed, workers=2)
    assert found.client.workers == 1
    assert found.summary.outcomes["ok"] > 0


def test_what_lies_before_second_0_is_no_part_of_the_play() -> None:
    closed = {"stages": (), "clients": 1, "seconds": 0.2}
    part = Shard(plan("http://127.0.0.1:1", workload=closed).orders(None)[0])
    _, facts = part.play(time.time() + 3.0, lambda _: None)
    assert facts.played_s >= 0.2
    assert facts.wall_s - facts.played_s > 1.0


async def test_cores_that_do_not_exist_are_refused() -> None:
    async with endpoint(lambda _: GOOD) as server:
        with pytest.raises(ValueError, match="Invalid argument"):
            await run(server, cores=[100_000])


def test_second_0_waits_until_the_first_bodies_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long prompts take seconds to make: a burst at second 0 would leave that much too late."""
    made = []
    ask = CompletionsBodies.ask

    def counted(self: CompletionsBodies, *args: Any) -> bytes:
        made.append(1)
        return ask(self, *args)

    monkeypatch.setattr(CompletionsBodies, "ask", counted)
    part = Shard(plan("http://127.0.0.1:1").orders(None)[0])
    assert len(made) == part.planned


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"endpoint": {"words": null}}'])
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|unusable"):
        WorkerPlan.parse(text)


def test_an_order_is_the_same_after_its_journey() -> None:
    (order,) = plan("http://h:1").orders(None)
    told = replace(order, endpoint=replace(order.endpoint, words=("a", "b"), ids=(1, 2)))
    assert WorkerPlan.parse(told.as_json()) == told


async def test_a_salt_may_be_written_in_any_letters() -> None:
    async with endpoint(lambda _: GOOD) as server:
        found = await run(server, salt="märz 1")
    assert found.summary.outcomes == {"ok": found.summary.offered}
    assert all(b"X-Request-Id: m%C3%A4rz%201-" in head for head in server.heads)


async def test_a_closed_loop_too_short_for_an_answer_is_not_valid() -> None:
    """Rather than a run of no requests, of which nobody knows why."""
    slow = replace(GOOD, after_s=0.5)
    async with endpoint(lambda _: slow) as server:
        found = await run(server, workload={"stages": (), "clients": 2, "seconds": 0.05})
    assert [len(found.counted), len(found.tail)] == [0, 2]
    assert not found.validity.valid
    assert "no answer ended within the 0.05 s of the closed loop" in str(found.validity)


def test_a_part_that_is_stopped_before_it_began_does_not_play() -> None:
    order = plan("http://127.0.0.1:1", workload={"stages": [(5.0, 60.0)]}).orders(None)[0]
    part = Shard(order)
    part.stop()
    records, facts = part.play(time.time() + 30.0, lambda _: None)
    assert facts.interrupted
    assert records == []
