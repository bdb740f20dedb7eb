"""Batch at the gate: it waits for room in the engine, and is answered whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from gate_world import CHAT, STOP, Answer, FakeEngineRequest, FakeOutput, FakeParams, World

from forebay.observability import catalogue
from forebay.policies.request import BATCH
from forebay.serving.engine import CURRENT_TICKET
from forebay.serving.engine.engine_hooks import UnadmittedError
from forebay.serving.http import Receive, Scope, Send

ROOM = 3  # sequences of batch that an engine of four slots takes


class Engine:
    """Answers each request when told to."""

    def __init__(self, **more: Any) -> None:
        self.world = World(self.app, **more)
        self.received: list[str] = []
        self._goes_on: dict[str, asyncio.Event] = {}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await receive()
        name = f"r{len(self.received)}"
        self.received.append(name)
        self._goes_on[name] = asyncio.Event()
        self.world.tap.on_add(FakeEngineRequest(name, [1] * 10, FakeParams(4)))
        await self._goes_on[name].wait()
        self.world.tap.on_step([FakeOutput(name, [7], STOP)], None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body["body"], "more_body": False})

    def answers(self, name: str) -> None:
        self._goes_on[name].set()

    async def ask(self, count: int, **more: Any) -> list[asyncio.Task[Answer]]:
        """Batch requests, each come to where it waits."""
        headers = {"x-forebay-class": "batch"}
        tasks = [
            asyncio.ensure_future(
                self.world.post("/v1/chat/completions", CHAT, headers=headers, **more)
            )
            for _ in range(count)
        ]
        await settle()
        return tasks

    @property
    def held(self) -> int:
        return self.world.admission.ledger.totals[BATCH].held


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@contextmanager
def ended(*tasks: asyncio.Task[Answer]) -> Iterator[None]:
    yield
    for task in tasks:
        task.cancel()


async def test_batch_enters_the_engine_as_it_has_room_and_all_of_it_is_answered() -> None:
    engine = Engine()
    tasks = await engine.ask(5)
    assert (len(engine.received), engine.held) == (ROOM, 2)
    engine.answers("r0")
    await settle()
    assert (len(engine.received), engine.held) == (ROOM + 1, 1)
    for number in range(1, 5):
        engine.answers(f"r{number}")
        await settle()
    answers = await asyncio.gather(*tasks)
    assert [answer.status for answer in answers] == [200] * 5
    assert all(b"messages" in answer.body for answer in answers), "the body was lost on the way"
    assert engine.world.admission.ledger.idle


async def test_a_client_that_leaves_while_it_is_held_leaves_nothing_behind() -> None:
    engine, gone = Engine(), asyncio.Event()
    running = await engine.ask(ROOM)
    [leaver] = await engine.ask(1, gone=gone)
    [behind] = await engine.ask(1)
    with ended(*running, behind):
        assert engine.held == 2
        gone.set()
        await settle()
        assert leaver.done()
        assert engine.held == 1
        assert engine.world.telemetry.totals[catalogue.FINISHED, (BATCH, "disconnected")] == 1
        engine.answers("r0")
        await settle()
        assert len(engine.received) == ROOM + 1, "the place of who left went to the next"


async def test_the_time_at_the_gate_counts_towards_the_deadline() -> None:
    engine = Engine(deadline_s=0.2)
    running = await engine.ask(ROOM)
    with ended(*running):
        engine.world.tap.on_step([FakeOutput(f"r{n}", [7]) for n in range(ROOM)], None)
        [late] = await engine.ask(1)
        assert engine.held == 1
        answer = await late
        assert answer.status == 503
        assert answer.error["code"] == "deadline_exceeded"
        assert engine.held == 0
        assert len(engine.received) == ROOM


async def test_what_is_held_when_a_replica_drains_is_served_still() -> None:
    engine = Engine()
    tasks = await engine.ask(ROOM + 1)
    engine.world.admission.draining = True
    for number in range(ROOM + 1):
        engine.answers(f"r{number}")
        await settle()
    assert [task.result().status for task in tasks] == [200] * (ROOM + 1)


async def test_a_held_ticket_does_not_open_the_engine() -> None:
    engine = Engine()
    tasks = await engine.ask(ROOM + 1)
    with ended(*tasks):
        held = next(t for t in engine.world.admission.ledger.tickets if t.held)
        CURRENT_TICKET.set(held)
        with pytest.raises(UnadmittedError):
            engine.world.tap.on_add(FakeEngineRequest("x", [1], FakeParams(1)))
