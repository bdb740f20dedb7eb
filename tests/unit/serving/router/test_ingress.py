"""The ingress: HAProxy's question in, a replica's address out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from router_fakes import FakeReplica

from forebay.policies.routing import Prompt
from forebay.serving.names import ROUTE_PATH
from forebay.serving.router import ForebayIngress, Picked, ingress
from forebay.serving.router.ingress import IngressApp

BODY = json.dumps({"messages": [{"role": "user", "content": "hello " * 200}]}).encode()


class FakePicker:
    """Notes what it is asked for."""

    def __init__(self, *replicas: FakeReplica) -> None:
        self.replicas = list(replicas)
        self.asked: list[Prompt] = []
        self.not_heard_for = 0

    def pick(self, prompt: Prompt) -> Picked:
        self.asked.append(prompt)
        return Picked(self.replicas[0], 77) if self.replicas else Picked(None, 0)

    def has_replicas(self) -> bool:
        return bool(self.replicas)

    def fleet(self) -> list[dict[str, Any]]:
        self.not_heard_for -= 1
        return [] if self.not_heard_for >= 0 else [r.routing_stats for r in self.replicas]


@pytest.fixture(autouse=True)
def nothing_attached() -> Iterator[None]:
    ingress._attached.clear()
    yield
    ingress._attached.clear()


async def ask(
    app: Any, body: bytes = BODY, headers: dict[str, str] | None = None, path: str = ROUTE_PATH
) -> tuple[int, Any]:
    """One request; returns status and parsed answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    encoded = [(key.encode(), value.encode()) for key, value in (headers or {}).items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": encoded}
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def test_answers_with_the_picked_replica_s_address() -> None:
    ingress.attach(FakePicker(FakeReplica("r1")))
    status, answer = await ask(IngressApp())
    assert status == 200
    assert (answer["host"], answer["port"]) == ("10.0.0.1", 9_000)
    assert answer["replica_id"] == "app#chat#r1"
    assert answer["request_headers"]["x-serve-router-cached-tokens"] == "77"


@pytest.mark.parametrize("picker", [None, FakePicker(), FakePicker(FakeReplica("r", {}, None))])
async def test_without_a_replica_that_listens_haproxy_is_told_one_that_it_does_not_know(
    picker: FakePicker | None,
) -> None:
    if picker is not None:
        ingress.attach(picker)
    status, answer = await ask(IngressApp())
    assert status == 200  # HAProxy makes a bare 503 of anything else
    assert list(answer) == ["replica_id"]
    assert answer["replica_id"].partition("#")[1] == "", "a replica of Serve's could be called so"


async def test_the_policy_is_given_the_prompt_and_the_session() -> None:
    picker = FakePicker(FakeReplica("r1"))
    ingress.attach(picker)
    await ask(IngressApp(), headers={"x-session-id": "s1"})
    await ask(IngressApp(), headers={"x-session-id": "s2"})
    await ask(IngressApp())
    first, second, third = picker.asked
    assert len(first.chunks) == 2
    assert 1_200 <= first.size <= 1_220
    assert 0 != first.session != second.session
    assert third.session == 0


async def test_a_body_that_haproxy_cut_counts_in_its_whole_length() -> None:
    picker = FakePicker(FakeReplica("r1"))
    ingress.attach(picker)
    await ask(IngressApp(), BODY[:700], {"x-body-truncated": "700/90000"})
    await ask(IngressApp(), BODY[:700], {"x-body-truncated": "nonsense"})
    told, untold = picker.asked
    assert 80_000 < told.size <= 90_000
    assert told.chunks == untold.chunks
    assert len(told.chunks) == 1
    assert untold.size < 700


async def test_who_leaves_or_sends_too_much_is_no_fault_of_the_router_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picker = FakePicker(FakeReplica("r1"))
    ingress.attach(picker)

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "path": ROUTE_PATH, "headers": []}
    await IngressApp()(scope, gone, unsent)
    monkeypatch.setattr(ingress, "_BODY_LIMIT", len(BODY) - 1)
    assert (await ask(IngressApp()))[0] == 413
    assert picker.asked == []


async def unsent(message: Any) -> None:
    raise AssertionError(f"sent to nobody: {message}")


async def test_other_paths_are_nobody_s() -> None:
    ingress.attach(FakePicker(FakeReplica("r1")))
    assert (await ask(IngressApp(), path="/v1/models"))[0] == 404


class FakeHandle:
    """A deployment handle whose broadcast is noted."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def _init(self) -> None:
        pass

    def broadcast(self, method: str) -> FakeHandle:
        self.calls.append(method)
        return self

    async def results_async(self, **_: Any) -> list[Any]:
        return []


async def test_an_ingress_that_has_just_started_is_not_taken_for_an_empty_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ingress, "_HEARING_S", 0.0)
    picker = FakePicker(FakeReplica("r1").publish(3))
    picker.not_heard_for = 4
    ingress.attach(picker)
    assert [stats["sequence"] for stats in await ForebayIngress(FakeHandle()).fleet()] == [3]
    ingress.attach(FakePicker())
    assert await ForebayIngress(FakeHandle()).fleet() == []


async def test_any_ingress_drains_every_replica() -> None:
    handle = FakeHandle()
    await ForebayIngress(handle).drain()
    assert handle.calls == ["begin_drain"]


async def test_a_fleet_of_none_has_drained() -> None:
    from ray.serve._private.common import DeploymentID
    from ray.serve.exceptions import DeploymentUnavailableError

    class NobodyThere(FakeHandle):
        async def results_async(self, **_: Any) -> list[Any]:
            raise DeploymentUnavailableError(DeploymentID(name="s"))

    await ForebayIngress(NobodyThere()).drain()
