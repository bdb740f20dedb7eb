"""A replica whose engine has died: routers pass it over, and who comes is told to come again."""

from __future__ import annotations

import pytest
from gate_world import Answer, answer_of, responding
from services import replica

from forebay.observability import catalogue
from forebay.serving.http import Message, Receive, Scope, Send
from forebay.serving.router.picking import read_stats

COMPLETIONS = "/v1/chat/completions"


class World:
    """A replica's gate over an engine that lives until a test says otherwise."""

    def __init__(self) -> None:
        self.dead = False
        self.asked: list[str] = []
        self.replica = replica(has_failed=lambda: self.dead)
        self.gate = self.replica.gate(self.app)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(scope["path"])
        await responding(200, b"{}")(scope, receive, send)

    async def ask(self, path: str = COMPLETIONS, method: str = "POST") -> Answer:
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b'{"prompt": "x"}', "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": path, "headers": []}
        await self.gate(scope, receive, send)
        return answer_of(sent)


@pytest.fixture
def world() -> World:
    return World()


def test_routers_take_it_for_one_that_drains(world: World) -> None:
    assert not read_stats(world.replica.publish()).draining
    world.dead = True
    told = world.replica.publish()
    assert read_stats(told).draining
    assert told["status"]["draining"]
    assert read_stats(told).context_tokens == 2_048


async def test_who_comes_all_the_same_is_told_to_come_again(world: World) -> None:
    world.dead = True
    answer = await world.ask()
    assert (answer.status, answer.error["code"]) == (503, "replica_failed")
    assert 1_000 <= int(answer.headers["retry-after-ms"]) <= 2_000
    assert not world.asked
    ended = world.replica.telemetry.by_second_label(catalogue.FINISHED, "interactive")
    assert ended == {"error": 1}
    assert world.replica.admission.ledger.idle


async def test_an_engine_that_lives_is_asked(world: World) -> None:
    assert (await world.ask()).status == 200
    assert world.asked == [COMPLETIONS]


async def test_what_needs_no_engine_is_answered(world: World) -> None:
    world.dead = True
    assert (await world.ask("/v1/models", "GET")).status == 200
    assert (await world.ask("/health", "GET")).status == 200, "that is the engine's app's to say"


async def test_a_replica_that_begins_to_drain_refuses_what_is_new_and_tells_the_routers(
    world: World,
) -> None:
    world.replica.begin_drain()
    answer = await world.ask()
    assert (answer.status, answer.error["code"]) == (429, "draining")
    assert not world.asked
    told = world.replica.publish()
    assert read_stats(told).draining
    assert told["status"]["draining"]
    assert (await world.ask("/health", "GET")).status == 200, "it is alive"
