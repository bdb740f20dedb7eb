"""How the requests of a burst come to the engine."""

from __future__ import annotations

import asyncio

import pytest
from gate_world import CHAT, STOP, FakeEngineRequest, FakeOutput, FakeParams, World

from forebay.observability import catalogue
from forebay.policies.request import INTERACTIVE, Cost, Ticket
from forebay.serving.engine import inflight_limiter
from forebay.serving.http import Receive, Scope, Send

COMPLETIONS = "/v1/chat/completions"
COST = Cost(sequences=1, prefill_tokens=10, output_tokens=4, output_cap=4)
BURST, TURNS = 64, 6


def ticket() -> Ticket:
    return Ticket(INTERACTIVE, 0, COST, 0.0, 1.0, 0.1)


class Burst:
    """A gate whose app takes some turns of the event loop to its engine, as vLLM's does."""

    def __init__(self) -> None:
        self.world = World(self.app, slots=BURST)
        self.world.admission.paces.prefill_rate.seed(1e6, 1.0)
        self.decided_at_first: float | None = None
        self.order: list[str] = []
        self.under_way = self.most_under_way = 0
        self.stays = asyncio.Event()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = next(value.decode() for key, value in scope["headers"] if key == b"name")
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if name.startswith("fetches"):
            await self.stays.wait()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self.under_way -= 1
        if name.startswith("fails"):
            raise ValueError
        self.world.tap.on_add(FakeEngineRequest(name, [1] * 10, FakeParams(4)))
        self.order.append(name)
        if self.decided_at_first is None:
            self.decided_at_first = self.world.telemetry.total(catalogue.OFFERED)
        await asyncio.sleep(0)
        self.world.tap.on_step([FakeOutput(name, [7], STOP)], None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": False})

    def ask(self, name: str) -> asyncio.Task[int]:
        async def asked() -> int:
            return (await self.world.post(COMPLETIONS, CHAT, headers={"name": name})).status

        return asyncio.ensure_future(asked())


async def test_the_first_of_a_burst_is_in_the_engine_while_others_are_not_looked_at() -> None:
    burst = Burst()
    names = [str(i) for i in range(BURST)]
    assert await asyncio.gather(*map(burst.ask, names)) == [200] * BURST
    assert burst.decided_at_first is not None
    assert burst.decided_at_first <= BURST / 2
    assert burst.order == names
    assert burst.most_under_way <= BURST / 8


async def test_who_is_refused_waits_for_nobody_and_nobody_for_them() -> None:
    burst = Burst()
    burst.world.admission.draining = True
    refused = [burst.ask(str(i)) for i in range(BURST)]
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert all(one.done() for one in refused)
    assert {one.result() for one in refused} == {429}


async def test_who_waits_for_something_else_than_the_engine_holds_up_nobody_for_long() -> None:
    burst = Burst()
    fetching = [burst.ask(f"fetches {i}") for i in range(3 * inflight_limiter._ON_THEIR_WAY)]
    assert await burst.ask("quick") == 200
    burst.stays.set()
    assert await asyncio.gather(*fetching) == [200] * len(fetching)


async def test_who_comes_after_the_one_that_is_looked_for_is_looked_for_in_turn() -> None:
    """The look that was due for one who has arrived meanwhile finds nobody too long on the way."""
    door = inflight_limiter.InflightLimiter()
    first, *others = (ticket() for _ in range(inflight_limiter._ON_THEIR_WAY + 1))
    await door.enter(first)
    await asyncio.sleep(0.2 * inflight_limiter._LONGEST_S)
    for one in others[:-1]:
        await door.enter(one)
    door.arrived(first)
    await door.enter(others[-1])
    async with asyncio.timeout(100 * inflight_limiter._LONGEST_S):
        await door.enter(ticket())


@pytest.mark.parametrize("leaves", [1, inflight_limiter._ON_THEIR_WAY, 10])
async def test_who_leaves_or_fails_on_the_way_gives_up_the_place(leaves: int) -> None:
    burst = Burst()
    going = [burst.ask(f"fetches {i}") for i in range(leaves)]
    for _ in range(20):
        await asyncio.sleep(0)
    for one in going:
        one.cancel()
    failing = [burst.ask(f"fails {i}") for i in range(leaves)]
    rest = await asyncio.gather(*map(burst.ask, map(str, range(20))))
    assert rest == [200] * 20
    await asyncio.gather(*going, *failing, return_exceptions=True)
    assert not burst.world.admission.ledger.tickets
    door = burst.world.tap.inflight_limiter
    assert not door._on_their_way
    assert door._places._value == inflight_limiter._ON_THEIR_WAY
