"""A gate with everything around it, and a stand-in for vLLM's app behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from admissions import admission_config

from forebay.policies.replica import ReplicaCore
from forebay.policies.request import BATCH, INTERACTIVE, ClassPolicy, CostModel
from forebay.policies.routing import OwnPrefixes
from forebay.serving.engine import EngineHooks, Telemetry
from forebay.serving.gate import Gate, Tenancy
from forebay.serving.http import App, InputLimits, Message, Receive, Scope, Send
from forebay.spec.service import ServiceSpec

CONTEXT = 4096
STOP = "stop"


class Clock:
    """A clock that tests move by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeEngineRequest:
    request_id: str
    prompt_token_ids: list[int] | None
    sampling_params: Any
    cache_salt: str | None = "the client's"
    data_parallel_rank: int | None = 3
    priority: int = -99


@dataclass
class FakeParams:
    max_tokens: int
    min_tokens: int = 0
    extra_args: dict[str, Any] | None = None


@dataclass
class FakeOutput:
    request_id: str
    new_token_ids: list[int]
    finish_reason: Any = None
    prefill_stats: Any = None


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@dataclass
class World:
    """A gate with everything around it; `seen` is what its engine received."""

    app: App
    clock: Clock = field(default_factory=Clock)
    slots: int = 4
    deadline_s: float = 60.0
    tenants: str | None = None
    most_tokens: int | None = None
    max_body: int = 10_000
    prefixes: OwnPrefixes | None = None
    seen: list[FakeEngineRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        classes = {
            INTERACTIVE: ClassPolicy(1.0, self.deadline_s),
            BATCH: ClassPolicy(30.0, self.deadline_s),
        }
        config = admission_config(classes=classes, slots=self.slots, kv_tokens=100_000)
        self.core = ReplicaCore(config, CostModel(CONTEXT, 64), lambda: 0.0)
        self.admission = self.core.admission
        self.admission.paces.prefill_rate.seed(1_000.0, 1.0)
        self.telemetry = Telemetry(self.clock)
        self.tap = EngineHooks(self.core, self.telemetry, self.clock, STOP, self.most_tokens)
        limits = InputLimits(self.max_body, 8, 4, CONTEXT, self.most_tokens, longest_token=10)
        spec = ServiceSpec.model_validate(
            {"name": "s", "model": {"id": "demo", "source": "demo"}, "tenants": self.tenants},
            context={"folder": Path()},
        )
        tenancy = Tenancy(spec, "r1", self.clock, self.admission.fair)
        self.tenancy = tenancy
        self.gate = Gate(
            self.app,
            self.core,
            self.tap,
            limits,
            self.telemetry,
            tenancy,
            self.clock,
            self.prefixes,
        )

    async def post(
        self,
        path: str,
        body: object,
        *,
        headers: dict[str, str] | None = None,
        method: str = "POST",
        gone: asyncio.Event | None = None,
        through: App | None = None,
    ) -> Answer:
        """What a client is answered by the gate, or by what stands before it."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[Message] = []
        pending = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive() -> Message:
            if pending:
                return pending.pop()
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        given = {"content-type": "application/json", **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(k.encode(), v.encode()) for k, v in given.items()],
        }
        await (through or self.gate)(scope, receive, send)
        return answer_of(sent)


def answer_of(sent: list[Message]) -> Answer:
    """What a client makes of these messages."""
    if not sent:
        return Answer(0, {}, b"")
    start = sent[0]
    headers = {k.decode().lower(): v.decode() for k, v in start["headers"]}
    body = b"".join(m.get("body", b"") for m in sent[1:])
    return Answer(start["status"], headers, body)


async def fails_for(
    app: App, fault: type[Exception] = RuntimeError, headers: Iterable[tuple[bytes, bytes]] = ()
) -> Answer:
    """What a client gets whose request, named r-9, fails in an app, which raises beside it."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": json.dumps(CHAT).encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    usual = [(b"content-type", b"application/json"), (b"x-request-id", b"r-9")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [*usual, *headers],
    }
    with pytest.raises(fault):
        await app(scope, receive, send)
    return answer_of(sent)


def engine_app(world: Callable[[], World]) -> App:
    """An app that sends one prompt to the engine, gets one token and answers with a stream."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        request = FakeEngineRequest(f"r{len(world().seen)}", [1] * 10, FakeParams(4))
        world().seen.append(request)
        world().tap.on_add(request)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        world().tap.on_step([FakeOutput(request.request_id, [7], STOP)], None)
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": False})

    return app


def serving(**more: Any) -> World:
    """A world whose app runs each request on a fake engine, and keeps it as `seen`."""
    world = World(engine_app(lambda: world), **more)
    return world


def responding(status: int, body: bytes, **extra: Any) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = [(b"content-type", b"application/json"), *extra.get("headers", [])]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
