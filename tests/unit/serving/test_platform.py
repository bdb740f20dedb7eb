"""A service from outside, with a fleet that is not there."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gate_world import Clock, responding
from ray import serve

from forebay.serving import platform
from forebay.serving.app import INGRESS_DEPLOYMENT
from forebay.serving.asgi import Message, Receive, Scope, Send
from forebay.serving.platform import Platform
from forebay.serving.replica import EngineLimits, Replica
from forebay.spec.service import ServiceSpec

SPEC = {"name": "s", "model": {"id": "m", "source": "demo-cpu", "engine": "emulated"}}


class Fleet:
    """One replica answers until second 3; another is ready from second 1 on and takes a request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.told: list[list[str]] = []
        self.broken_from = float("inf")
        self.error: Exception = TimeoutError()
        self.states: Callable[[], dict[str, int]] = lambda: {"RUNNING": len(self.ready)}
        monkeypatch.setattr(platform, "time", self)
        self.platform = Platform(ServiceSpec.model_validate({**SPEC, "scaling": {"max": 2}}))
        ingress = SimpleNamespace(drain=SimpleNamespace(remote=self.drain))
        monkeypatch.setattr(self.platform, "_ingress", lambda: ingress)
        monkeypatch.setattr(self.platform, "fleet", self.fleet)
        monkeypatch.setattr(serve, "status", self.status)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def ready(self) -> list[str]:
        return ["first"] if self.now < 1.0 else ["first", "late"]

    def drain(self) -> Any:
        return SimpleNamespace(result=self._drained)

    def _drained(self, timeout_s: float) -> None:
        if self.now >= self.broken_from:
            raise self.error
        self.told.append(self.ready)

    def fleet(self) -> list[dict[str, Any]]:
        running = 1 if self.now < 3.0 else 0
        return [{"tickets": running} for _ in self.ready]

    def status(self) -> Any:
        chat, ingress = self.states(), {"RUNNING": 1, "STOPPING": 1}
        deployments = {"s": chat, INGRESS_DEPLOYMENT: ingress}
        told = {n: SimpleNamespace(replica_states=states) for n, states in deployments.items()}
        return SimpleNamespace(applications={"s": SimpleNamespace(deployments=told)})

    def answers(self, monkeypatch: pytest.MonkeyPatch, fleet: Callable[[], list[Any]]) -> None:
        monkeypatch.setattr(self.platform, "fleet", fleet)


def test_a_replica_that_becomes_ready_while_the_fleet_drains_is_told_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(monkeypatch)
    assert fleet.platform.drain()
    assert fleet.told[0] == ["first"]
    assert fleet.told[1] == fleet.told[-1] == ["first", "late"]


def test_a_router_that_does_not_answer_any_more_ends_no_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(monkeypatch)
    fleet.broken_from = 1.0
    assert fleet.platform.drain()
    assert fleet.now >= 3.0


def test_a_replica_too_busy_to_say_what_it_does_is_not_taken_to_do_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(monkeypatch)

    def silent() -> list[dict[str, Any]]:
        if fleet.now < 2.5:
            raise TimeoutError
        return fleet.fleet()

    fleet.answers(monkeypatch, silent)
    assert fleet.platform.drain()
    assert fleet.now >= 3.0


def test_a_replica_that_leaves_is_waited_for_though_no_router_tells_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(monkeypatch)
    fleet.states = lambda: {"RUNNING": 1, "STOPPING": int(fleet.now < 6.0)}
    fleet.answers(monkeypatch, lambda: [{"tickets": 0}])
    assert fleet.platform.drain()
    assert 6.0 <= fleet.now < 8.0


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("the actor died")])
def test_a_router_that_has_died_is_told_again_when_there_is_another(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fleet = Fleet(monkeypatch)
    fleet.broken_from, fleet.error = 0.0, error
    sleep = fleet.sleep

    def until_another(seconds: float) -> None:
        sleep(seconds)
        if fleet.now >= 4.0:
            fleet.broken_from = float("inf")

    monkeypatch.setattr(fleet, "sleep", until_another)
    assert fleet.platform.drain()
    assert fleet.told
    assert fleet.now >= 5.0, "what was published before the call ended the drain"


def test_routers_that_fail_to_the_end_are_given_the_whole_time_of_a_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Fleet(monkeypatch)

    def dead() -> list[Any]:
        raise RuntimeError("the actor died")

    fleet.answers(monkeypatch, dead)
    assert not fleet.platform.drain()
    drain_s = fleet.platform.spec.server.drain
    assert drain_s <= fleet.now < drain_s + 2.0


@pytest.mark.parametrize("heard", [0, 1])
def test_a_router_that_has_not_heard_of_all_replicas_ends_no_drain(
    monkeypatch: pytest.MonkeyPatch, heard: int
) -> None:
    fleet = Fleet(monkeypatch)
    fleet.states = lambda: {"RUNNING": 2}
    fleet.answers(monkeypatch, lambda: [{"tickets": 0}] * (heard if fleet.now < 5.0 else 2))
    assert fleet.platform.drain()
    assert fleet.now >= 5.0


def test_a_fleet_of_none_has_drained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(monkeypatch)
    fleet.states = dict
    fleet.answers(monkeypatch, list)
    assert fleet.platform.drain()
    assert fleet.now <= 1.0


def session(age: str, frontend: str = "http_frontend") -> str:
    """A line of HAProxy's, as 2.8 writes it."""
    return (
        f"0x55d7: proto=tcpv4 src=127.0.0.1:41866 fe={frontend} be=app srv=r1 ts=00 epoch=0 "
        f"age={age} calls=5 rate=0 cpu=0 lat=0 rq[f=848002h,i=0,an=00h,ax=] s0=[8,200008h,fd=1]\n"
    )


@contextmanager
def haproxy(folder: Path, told: Callable[[], str]) -> Iterator[None]:
    """The admin socket of one, which tells of these sessions."""

    class Answers(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            assert self.rfile.readline() == b"show sess\n"
            self.wfile.write(told().encode())

    (folder / "node").mkdir()
    with socketserver.UnixStreamServer(str(folder / "node" / "admin.sock"), Answers) as server:
        answering = threading.Thread(target=server.serve_forever, args=(0.01,))
        answering.start()
        try:
            yield
        finally:
            server.shutdown()
            answering.join()


def test_an_answer_that_is_made_and_still_read_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = Fleet(monkeypatch)
    fleet.platform._folder = tmp_path
    refused = session("0s") + session("1h2m", "GLOBAL")
    with haproxy(tmp_path, lambda: refused + (session("1m4s") if fleet.now < 9.0 else "")):
        assert fleet.platform.drain()
    assert 9.0 <= fleet.now < 11.0


async def test_a_replica_tells_of_a_request_until_its_answer_is_sent() -> None:
    limits = EngineLimits(
        slots=4, kv_tokens=10_000, step_tokens=512, context_tokens=2_048, longest_token=9,
        stop_reason="stop", prefix_caching=True,
    )  # fmt: skip
    replica = Replica(ServiceSpec.model_validate(SPEC), limits, Clock(), name="r1", seed=0)
    told: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for ticket in replica.admission.ledger.tickets:
            for sequence in ticket.sequences:  # the engine has its last token
                replica.admission.end(sequence, natural=True, now=100.0)
        await responding(200, b"{}")(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"prompt": "x"}', "more_body": False}

    async def send(message: Message) -> None:
        told.append(replica.publish()["tickets"])

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    await replica.gate(app)(scope, receive, send)
    assert told
    assert set(told) == {1}
    assert replica.publish()["tickets"] == 0
