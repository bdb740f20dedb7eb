"""What stands before Serve's HTTP servers: routers' answers and refusals never get to Serve."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from gate_world import CHAT, World, fails_for, serving
from router_fakes import FakeReplica

from forebay.observability import catalogue
from forebay.policies.request import INTERACTIVE
from forebay.serving.app import before_serve
from forebay.serving.app.before_serve import BeforeServe
from forebay.serving.http import Receive, Scope, Send, send_response
from forebay.serving.names import ROUTE_PATH
from forebay.serving.router import Picked, ingress

CHATS = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def nothing_attached() -> Iterator[None]:
    before_serve._doors.clear()
    ingress._attached.clear()
    yield
    before_serve._doors.clear()
    ingress._attached.clear()


class FakeServe:
    """Serve's server in a replica: notes what gets to it, and calls the replica's app."""

    def __init__(self, world: World | None = None) -> None:
        self._world = world
        self.seen: list[dict[bytes, bytes]] = []
        self.refuses = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(dict(scope["headers"]))
        if self._world is None or self.refuses:
            await send_response(send, 299, b"{}")
        else:
            await self._world.gate(scope, receive, send)


def behind_serve(**more: Any) -> tuple[World, FakeServe, BeforeServe]:
    world = serving(**more)
    before_serve.attach(world.gate)
    serve = FakeServe(world)
    return world, serve, BeforeServe(serve)


class OneReplica:
    """A request router that always picks it."""

    def pick(self, _: Any) -> Picked:
        return Picked(FakeReplica("r1"), 77)

    def fleet(self) -> list[dict[str, Any]]:
        return []

    def has_replicas(self) -> bool:
        return True


async def test_what_is_let_in_goes_through_serve_once_and_is_answered() -> None:
    world, serve, front = behind_serve()
    unwatched = {"x-request-disconnect-disabled": "?0"}
    answer = await world.post(CHATS, CHAT, headers=unwatched, through=front)
    assert (answer.status, answer.body) == (200, b"data: x\n\n")
    assert len(serve.seen) == 1
    assert serve.seen[0][b"x-request-disconnect-disabled"] == b"?1", "Serve watches as well"
    assert world.telemetry.total(catalogue.OFFERED) == 1
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "ok")] == 1
    assert not world.admission.ledger.tickets


async def test_serve_hears_nothing_of_a_refusal_which_still_says_which_request_it_was() -> None:
    world, serve, front = behind_serve()
    world.admission.draining = True
    named = {"x-request-id": "r-7"}
    answer = await world.post(CHATS, CHAT, headers=named, through=front)
    assert (answer.status, answer.error["code"]) == (429, "draining")
    assert answer.headers["x-request-id"] == "r-7"
    assert int(answer.headers["retry-after"]) >= 1
    wrong = await world.post(CHATS, b"{", headers=named, through=front)
    assert (wrong.status, wrong.headers["x-request-id"]) == (400, "r-7")
    nameless = [await world.post(CHATS, CHAT, through=front) for _ in range(2)]
    assert len({answer.headers["x-request-id"] for answer in nameless}) == 2
    assert serve.seen == []


async def test_scripts_may_read_what_goes_wrong_behind_serve_too() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a fault")

    world = World(broken)
    before_serve.attach(world.gate)
    front = BeforeServe(FakeServe(world))
    answer = await fails_for(front, headers=[(b"origin", b"https://shop.example")])
    assert (answer.status, answer.error["code"]) == (503, "replica_failed")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "retry-after-ms" in answer.headers["access-control-expose-headers"]


async def test_who_leaves_on_the_way_through_serve_is_counted_as_gone() -> None:
    world, _, _ = behind_serve()

    async def left(scope: Scope, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await world.post(CHATS, CHAT, through=BeforeServe(left))
    assert not world.admission.ledger.tickets
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "disconnected")] == 1


async def test_what_serve_turns_away_after_all_leaves_nothing_behind() -> None:
    world, serve, front = behind_serve()
    serve.refuses = True
    assert (await world.post(CHATS, CHAT, through=front)).status == 299
    assert not world.admission.ledger.tickets
    assert world.telemetry.total(catalogue.ADMITTED) == 1
    assert world.telemetry.totals[catalogue.FINISHED, (INTERACTIVE, "error")] == 1


@pytest.mark.parametrize("comes_late", [False, True])
async def test_where_serve_itself_fails_the_client_is_told_and_the_log_says_why(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, comes_late: bool
) -> None:
    world, serve, _ = behind_serve()

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if comes_late:
            await serve(scope, receive, send)
        raise UnicodeError("a header")

    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    answer = await fails_for(BeforeServe(broken), UnicodeError)
    assert answer.status == (200 if comes_late else 503)
    assert "request r-9 failed" in caplog.text
    assert "a header" in caplog.text
    assert not world.admission.ledger.tickets
    assert world.telemetry.total(catalogue.FINISHED) == 1


async def test_a_fault_of_the_gate_s_is_answered_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world, serve, front = behind_serve()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(type(world.admission), "decide", fail)
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    assert (await fails_for(front)).error["code"] == "replica_failed"
    assert "a fault" in caplog.text, "nobody else says what went wrong"
    assert serve.seen == []


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/tokenize"), ("GET", CHATS), ("GET", "/-/healthz")]
)
async def test_what_does_not_reach_the_engine_goes_to_serve_first(method: str, path: str) -> None:
    world, serve, front = behind_serve()
    serve.refuses = True
    assert (await world.post(path, CHAT, method=method, through=front)).status == 299
    assert len(serve.seen) == 1


async def test_haproxy_s_question_is_answered_only_where_a_router_lives() -> None:
    world = serving()
    front = BeforeServe(FakeServe())
    assert (await world.post(ROUTE_PATH, {}, through=front)).status == 299
    ingress.attach(OneReplica())
    answer = await world.post(ROUTE_PATH, {}, through=front)
    assert answer.json["replica_id"] == "app#chat#r1"
    assert (await world.post("/-/healthz", {}, through=front)).status == 299


async def test_a_name_that_is_none_is_replaced_by_one() -> None:
    scope = {"headers": [(b"x-request-id", b"x" * 3_000), (b"host", b"h")]}
    name = before_serve._request_id(scope)
    assert len(name) <= 64
    assert [value for key, value in scope["headers"] if key == b"x-request-id"] == [name.encode()]
    assert (b"host", b"h") in scope["headers"]
