"""A drain, of a fleet that is not there."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from fake_serve import serve_status
from gate_world import responding
from ray import serve
from ray.exceptions import GetTimeoutError
from ray.serve._private import constants
from services import replica, service

from forebay.serving.cluster import drain, in_time, platform, proxy_sessions
from forebay.serving.cluster.drain import Drain
from forebay.serving.cluster.proxy_sessions import JoinedProxies, OwnProxies
from forebay.serving.http import Message, Receive, Scope, Send
from forebay.serving.names import INGRESS_DEPLOYMENT

MOST_S = 60.0
NODES = ["a" * 56, "b" * 56, "c" * 56]


class Fleet:
    """One replica answers until second 3; another is ready from second 1 on and takes a request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.now = 0.0
        self.told: list[list[str]] = []
        self.said: list[str] = []
        self.broken_from = float("inf")
        self.error: Exception = TimeoutError()
        self.states: Callable[[], dict[str, int]] = lambda: {"RUNNING": len(self.ready)}
        self.answers: Callable[[], list[dict[str, Any]]] = self.tickets
        monkeypatch.setattr(drain, "time", self)
        monkeypatch.setattr(in_time, "time", self)
        monkeypatch.setattr(serve, "status", self.status)
        self.drain = Drain("s", MOST_S, self, OwnProxies(folder), self.said.append).run

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def ready(self) -> list[str]:
        return ["first"] if self.now < 1.0 else ["first", "late"]

    def begin_drain(self) -> None:
        if self.now >= self.broken_from:
            raise self.error
        self.told.append(self.ready)

    def tickets(self) -> list[dict[str, Any]]:
        running = 1 if self.now < 3.0 else 0
        return [{"tickets": running} for _ in self.ready]

    def fleet(self) -> list[dict[str, Any]]:
        return self.answers()

    def status(self) -> Any:
        chat, ingress = self.states(), {"RUNNING": 1, "STOPPING": 1}
        return serve_status({"s": chat, INGRESS_DEPLOYMENT: ingress}, NODES[:1])


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fleet:
    return Fleet(monkeypatch, tmp_path)


def test_a_replica_that_becomes_ready_while_the_fleet_drains_is_told_too(fleet: Fleet) -> None:
    assert fleet.drain()
    assert fleet.told[0] == ["first"]
    assert fleet.told[1] == fleet.told[-1] == ["first", "late"]


def test_a_router_that_does_not_answer_any_more_ends_no_drain(fleet: Fleet) -> None:
    fleet.broken_from = 1.0
    assert fleet.drain()
    assert fleet.now >= 3.0


def test_a_replica_too_busy_to_say_what_it_does_is_not_taken_to_do_nothing(fleet: Fleet) -> None:
    def silent() -> list[dict[str, Any]]:
        if fleet.now < 2.5:
            raise TimeoutError
        return fleet.tickets()

    fleet.answers = silent
    assert fleet.drain()
    assert fleet.now >= 3.0


def test_a_replica_that_leaves_is_waited_for_though_no_router_tells_of_it(fleet: Fleet) -> None:
    fleet.states = lambda: {"RUNNING": 1, "STOPPING": int(fleet.now < 6.0)}
    fleet.answers = lambda: [{"tickets": 0}]
    assert fleet.drain()
    assert 6.0 <= fleet.now < 8.0


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("the actor died")])
def test_a_router_that_has_died_is_told_again_when_there_is_another(
    fleet: Fleet, error: Exception
) -> None:
    fleet.broken_from, fleet.error = 0.0, error
    sleep = fleet.sleep

    def until_another(seconds: float) -> None:
        sleep(seconds)
        if fleet.now >= 4.0:
            fleet.broken_from = float("inf")

    fleet.sleep = until_another  # type: ignore[method-assign]
    assert fleet.drain()
    assert fleet.told
    assert fleet.now >= 5.0, "what was published before the call ended the drain"


def test_routers_that_fail_to_the_end_are_given_the_whole_time_of_a_drain(fleet: Fleet) -> None:
    def dead() -> list[Any]:
        raise RuntimeError("the actor died")

    fleet.answers = dead
    assert not fleet.drain()
    assert MOST_S <= fleet.now < MOST_S + 2.0
    assert fleet.said == ["waiting for word from the replicas"]


@pytest.mark.parametrize("heard", [0, 1])
def test_a_router_that_has_not_heard_of_all_replicas_ends_no_drain(
    fleet: Fleet, heard: int
) -> None:
    fleet.states = lambda: {"RUNNING": 2}
    fleet.answers = lambda: [{"tickets": 0}] * (heard if fleet.now < 5.0 else 2)
    assert fleet.drain()
    assert fleet.now >= 5.0


def test_a_fleet_of_none_has_drained_at_once(fleet: Fleet) -> None:
    fleet.states = dict
    fleet.answers = list
    assert fleet.drain()
    assert fleet.now <= 1.0


def ended_in_time(fleet: Fleet) -> bool:
    """What a drain comes to; fails where it has not ended after seconds of real time."""
    ended: Future[bool] = Future()
    threading.Thread(target=lambda: ended.set_result(fleet.drain()), daemon=True).start()
    return ended.result(timeout=10)


class Hung:
    """A call that does not return before second `until` of the fleet's clock."""

    def __init__(self, fleet: Fleet, until: float, then: Callable[[], Any]) -> None:
        self._fleet, self._until, self._then = fleet, until, then
        self._back = threading.Event()
        self.asked = 0
        sleep = fleet.sleep

        def sleeping(seconds: float) -> None:
            sleep(seconds)
            if fleet.now >= until:
                self._back.set()

        fleet.sleep = sleeping  # type: ignore[method-assign]

    def __call__(self) -> Any:
        self.asked += 1
        assert self._back.wait(timeout=10)
        return self._then()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_time, "_ANSWER_S", 0.005)


NEVER = float("inf")
SILENT = "Serve's controller has not answered for 30 s"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("tells", [True, False])
def test_a_controller_that_hangs_ends_the_drain_and_is_named(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    hung = Hung(fleet, NEVER, fleet.status)
    monkeypatch.setattr(serve, "status", hung)
    fleet.broken_from = NEVER if tells else 0.0
    assert not ended_in_time(fleet)
    assert 30.0 <= fleet.now < 33.0
    assert fleet.said[-1].startswith(SILENT)
    assert hung.asked == 1, "a thread that hangs for each question"


@pytest.mark.usefixtures("impatient")
def test_a_controller_that_comes_back_is_waited_for(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "status", Hung(fleet, 20.0, fleet.status))
    assert ended_in_time(fleet)
    assert 20.0 <= fleet.now < 22.0
    assert fleet.said == ["waiting for word from Serve's controller"]


@pytest.mark.usefixtures("impatient")
def test_a_controller_that_is_asked_seldom_is_not_taken_to_hang(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other questions of a round took longer than it may be silent, and it fails once."""
    failures = [TimeoutError()]

    def status() -> Any:
        if fleet.now > 40.0 and failures:
            raise failures.pop()
        return fleet.status()

    def slow() -> list[dict[str, Any]]:
        fleet.now += 35.0
        return [{"tickets": fleet.now < 80.0}, {"tickets": 0}]

    monkeypatch.setattr(serve, "status", status)
    fleet.drain = Drain("s", 600.0, fleet, NoProxies(), fleet.said.append).run
    fleet.answers = slow
    assert ended_in_time(fleet)
    assert not failures


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("question", ["fleet", "begin_drain"])
def test_whatever_else_hangs_takes_no_more_than_the_time_of_a_drain(
    fleet: Fleet, question: str
) -> None:
    setattr(fleet, question, Hung(fleet, NEVER, list))
    fleet.drain = Drain("s", MOST_S, fleet, NoProxies(), fleet.said.append).run
    assert not ended_in_time(fleet)
    assert MOST_S <= fleet.now < MOST_S + 2.0
    assert SILENT not in "".join(fleet.said)


def test_a_drain_says_what_it_waits_for_once_each(fleet: Fleet, tmp_path: Path) -> None:
    with haproxy(tmp_path, lambda: session("1m4s") if fleet.now < 9.0 else ""):
        fleet.states = lambda: {"RUNNING": 2, "STOPPING": int(fleet.now < 6.0)}
        assert fleet.drain()
    assert fleet.said == [
        "waiting for requests that run",
        "waiting for replicas that stop",
        "waiting for clients that still read",
    ]


class NoProxies:
    """None carries anything."""

    def ages(self, nodes: Iterable[str]) -> list[int]:
        return []


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


def test_an_answer_that_is_made_and_still_read_is_waited_for(fleet: Fleet, tmp_path: Path) -> None:
    refused = session("0s") + session("1h2m", "GLOBAL")
    with haproxy(tmp_path, lambda: refused + (session("1m4s") if fleet.now < 9.0 else "")):
        assert fleet.drain()
    assert 9.0 <= fleet.now < 11.0


def test_a_proxy_that_does_not_answer_is_taken_to_carry_something(
    fleet: Fleet, tmp_path: Path
) -> None:
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "admin.sock").touch()
    assert not fleet.drain()
    assert fleet.said[-1] == "waiting for word from HAProxy"


def test_a_node_tells_what_its_own_proxy_carries(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(constants, "RAY_SERVE_HAPROXY_SOCKET_PATH", str(tmp_path / "admin.sock"))
    with haproxy(tmp_path, lambda: session("1m4s") + session("2s")):
        assert proxy_sessions._ages_on("node") == [64, 2]
        assert proxy_sessions._ages_on("of another cluster") == []


class Nodes:
    """A cluster's, in the place of Ray: what each answers, or raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self._answers = dict(zip(NODES, answers, strict=False))
        monkeypatch.setattr(ray, "remote", lambda **_: lambda _: self)
        monkeypatch.setattr(ray, "get", self.get)

    def options(self, *, scheduling_strategy: Any) -> Any:
        assert not scheduling_strategy.soft
        return SimpleNamespace(remote=lambda node: (node, scheduling_strategy.node_id))

    def get(self, asked: tuple[str, str], timeout: float) -> list[int]:
        node, where = asked
        assert node == where
        if isinstance(self._answers[node], Exception):
            raise self._answers[node]
        return list(self._answers[node])


def test_the_proxies_of_a_joined_cluster_are_asked_each_on_its_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Nodes(monkeypatch, [1], RuntimeError("the node died"), [2, 3])
    assert JoinedProxies().ages(NODES) == [1, 2, 3]


def test_a_node_of_a_joined_cluster_that_does_not_answer_is_not_taken_to_carry_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    Nodes(monkeypatch, GetTimeoutError())
    with pytest.raises(GetTimeoutError):
        JoinedProxies().ages(NODES[:1])
    fleet.drain = Drain("s", MOST_S, fleet, JoinedProxies(), fleet.said.append).run
    assert not fleet.drain()
    assert fleet.said[-1] == "waiting for word from HAProxy"


@pytest.mark.parametrize(
    ("server", "proxies"),
    [({}, OwnProxies), ({"ray_address": "10.0.0.1:6379"}, JoinedProxies)],
)
def test_a_platform_asks_its_own_proxies_or_those_of_the_cluster_that_it_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: dict[str, Any], proxies: type
) -> None:
    started = platform.Platform(service(server=server))
    started._folder = tmp_path
    asked: list[Any] = []

    class Noted(Drain):
        def run(self) -> bool:
            asked.append(self._proxies)
            return True

    monkeypatch.setattr(platform, "Drain", Noted)
    assert started.drain()
    assert [type(one) for one in asked] == [proxies]


async def test_a_replica_tells_of_a_request_until_its_answer_is_sent() -> None:
    one = replica()
    told: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for ticket in one.admission.ledger.tickets:
            for sequence in ticket.sequences:  # the engine has its last token
                one.admission.end(sequence, natural=True, now=100.0)
        await responding(200, b"{}")(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"prompt": "x"}', "more_body": False}

    async def send(message: Message) -> None:
        told.append(one.publish()["tickets"])

    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    await one.gate(app)(scope, receive, send)
    assert told
    assert set(told) == {1}
    assert one.publish()["tickets"] == 0
