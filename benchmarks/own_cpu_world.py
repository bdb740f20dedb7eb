"""A replica's front door and a router without Ray, HTTP or an engine, for `own_cpu.py`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from forebay.observability import catalogue
from forebay.policies.quotas import PERIOD_S
from forebay.policies.request import Admitted, RequestShape
from forebay.policies.routing import Prompt, RoutingPolicy
from forebay.serving.app import EngineLimits, Replica
from forebay.serving.control import FleetLedger
from forebay.serving.engine import CURRENT_TICKET, EngineHooks
from forebay.serving.http import Message, Receive, Scope, Send
from forebay.serving.names import STATS_PERIOD_S
from forebay.serving.router import Picked, ReplicaPicker
from forebay.spec.service import load_service_text
from forebay.spec.tenants import key_hash, new_key
from systems import DEMO

ANSWER = 48  # chunks of an answer
TENANTS = 20
REPLICAS = 8
TICK_S = 0.05  # between two requests of a replica: 20/s, which leaves nobody asking for too much
STOP = "stop"
_KEYS = [new_key() for _ in range(TENANTS)]
_WORDS = ["the", "of", "and", "a", "to", "in", "is", "you", "that", "it", "he", "was", "for", "on"]
_START = {"type": "http.response.start", "status": 200, "headers": []}
_CHUNK = {"type": "http.response.body", "body": b'data: {"choices": []}\n\n', "more_body": True}
_LAST = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}
# What OpenAI's client and HAProxy put on a request, beside those that say something of it.
_ORDINARY = [
    (b"host", b"127.0.0.1:8000"), (b"user-agent", b"OpenAI/Python 2.9.0"),
    (b"accept", b"application/json"), (b"accept-encoding", b"gzip, deflate"),
    (b"x-stainless-lang", b"python"), (b"x-stainless-package-version", b"2.9.0"),
    (b"x-stainless-os", b"Linux"), (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"), (b"x-stainless-runtime-version", b"3.11.9"),
    (b"x-stainless-async", b"false"), (b"x-stainless-read-timeout", b"600"),
    (b"x-stainless-retry-count", b"0"), (b"content-type", b"application/json"),
    (b"x-request-id", b"6f2c4a5e-7f0e-4c57-9c1d-2f8f5a3f1b11"),
    (b"x-request-disconnect-disabled", b"?1"), (b"x-serve-router-cached-tokens", b"64"),
]  # fmt: skip


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True)
class Params:
    """vLLM's sampling parameters."""

    max_tokens: int
    extra_args: dict[str, Any] | None = None


@dataclass(slots=True)
class EngineRequest:
    """What vLLM's handlers give the engine."""

    request_id: str
    prompt_token_ids: list[int] | None
    sampling_params: Any
    cache_salt: str | None = None
    data_parallel_rank: int | None = None
    priority: int = 0


@dataclass(slots=True)
class Output:
    """What the engine says of one sequence after a step."""

    request_id: str
    new_token_ids: list[int]
    finish_reason: Any = None
    prefill_stats: Any = None


class StandIn:
    """Plays vLLM's app: one engine request, a stream of `ANSWER` chunks; without a tap, alone."""

    def __init__(self, tap: EngineHooks | None, clock: Clock) -> None:
        self._tap = tap
        self._clock = clock
        self._names = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = (await receive())["body"]
        name = f"r{next(self._names)}"
        request = EngineRequest(name, [1] * (len(body) // 4), Params(ANSWER))
        if self._tap is not None:
            self._tap.on_add(request)
        await send(_START)
        self._step(Output(name, [7]))
        for _ in range(ANSWER):
            await send(_CHUNK)
        self._step(Output(name, [7], STOP))
        await send(_LAST)

    def _step(self, output: Output) -> None:
        self._clock.now += TICK_S / 2
        if self._tap is not None:
            self._tap.on_step([output], self._clock.now)


class FrontDoor:
    """A replica of the demo's service under load: answers running, requests queued."""

    def __init__(
        self, folder: Path, *, tenants: bool, running: int, queued: int, alone: bool = False
    ) -> None:
        """`alone`: as the only replica, without a router; otherwise one of a fleet."""
        self.clock = Clock()
        spec = yaml.safe_load(DEMO.read_text())
        spec["scaling"] = {"max": 1 if alone else REPLICAS}
        if tenants:
            known = [
                {"name": f"tenant-{i}", "key_hashes": [key_hash(key)], "tokens_per_minute": 10**9}
                for i, key in enumerate(_KEYS)
            ]
            (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": known}))
            spec["tenants"] = "tenants.yaml"
        limits = EngineLimits(
            slots=64, kv_tokens=419_000, step_tokens=2048, context_tokens=16_384,
            longest_token=16, stop_reason=STOP, prefix_caching=True,
        )  # fmt: skip
        service = load_service_text(yaml.safe_dump(spec), folder=folder)
        self.replica = Replica(service, limits, self.clock, name="r1", seed=1)
        self.gate = self.replica.gate(StandIn(self.replica.tap, self.clock))
        self._with_keys = tenants
        self._share_quotas()
        self._numbers = count()
        self.running: list[str] = []
        self.promise(3600.0)
        self._fill(running, queued)

    def _share_quotas(self) -> None:
        """Two exchanges with a fleet's ledger that has listened long enough to hand out quotas."""
        ledger, tenancy = FleetLedger(self.clock.now - 60.0), self.replica.tenancy
        for _ in range(2):
            self.clock.now += PERIOD_S
            if (told := tenancy.report(self.clock.now)) is not None:
                tenancy.answered(ledger.exchange(told, self.clock.now), self.clock.now)

    def tick(self) -> None:
        """Time passes between two requests."""
        self.clock.now += TICK_S

    def promise(self, ttft_s: float) -> None:
        """Promise every class a first token within so many seconds."""
        admission = self.replica.admission
        classes = {
            name: replace(policy, ttft_s=ttft_s, deadline_s=ttft_s)
            for name, policy in admission.config.classes.items()
        }
        admission.config = replace(admission.config, classes=classes, max_queued_tokens=10**9)

    def _fill(self, running: int, queued: int) -> None:
        admission = self.replica.admission
        admission.paces.prefill_rate.seed(20_000.0, 10.0)
        admission.paces.full_step_rate.seed(100.0, 10.0)
        for number in range(running + queued):
            self.clock.now += 1.0
            name = f"background-{number}"
            # Of a tenant of its own: one of the few that ask then would have its part of the slots.
            self._admit(name, name if self._with_keys else "")
            if number < running:
                self.replica.tap.on_step([Output(name, [7] * (1 + number))], self.clock.now)
                self.running.append(name)
        self.clock.now += 60.0  # what was asked for until now is forgotten

    def _admit(self, name: str, tenant: str) -> None:
        admission = self.replica.admission
        cost = admission.costs.price(RequestShape(prompt_bytes=720, prompt_ids=0, max_tokens=8192))
        decision = admission.decide(cost, "interactive", self.clock.now, tenant)
        if not isinstance(decision, Admitted):
            raise RuntimeError(f"the load itself was refused: {decision}")
        token = CURRENT_TICKET.set(decision.ticket)
        self.replica.tap.on_add(EngineRequest(name, [1] * 180, Params(8192)))
        CURRENT_TICKET.reset(token)

    def check(self, *, admitted: bool) -> None:
        """That every request was admitted, or that all were refused for their predicted TTFT.

        Raises:
            RuntimeError: not so; the figures are of something else.
        """
        telemetry = self.replica.telemetry
        offered, let_in = telemetry.total(catalogue.OFFERED), telemetry.total(catalogue.FINISHED)
        shed = telemetry.totals[catalogue.SHED, ("interactive", "ttft_budget")]
        if not offered or (let_in if admitted else shed) != offered:
            raise RuntimeError(f"{let_in} of {offered} admitted: {dict(telemetry.totals)}")
        self.replica.admission.check_integrity()

    def scope(self, body: bytes) -> Scope:
        """The next request's; with tenants, each in turn."""
        key = _KEYS[next(self._numbers) % TENANTS]
        own = [(b"authorization", f"Bearer {key}".encode())] if self._with_keys else []
        return scope("/v1/chat/completions", [*own, (b"content-length", b"%d" % len(body))])


def scope(path: str, headers: list[tuple[bytes, bytes]]) -> Scope:
    return {"type": "http", "method": "POST", "path": path, "headers": [*_ORDINARY, *headers]}


@dataclass
class ReplicaId:
    """Serve's name of a replica."""

    unique_id: str

    def to_full_id_str(self) -> str:
        return f"demo#demo#{self.unique_id}"


@dataclass
class PublishedReplica:
    """A replica as Serve shows it to a router."""

    replica_id: ReplicaId
    routing_stats: dict[str, Any] = field(default_factory=dict)
    backend_http_endpoint: tuple[str, int] = ("10.0.0.1", 9000)


class Router:
    """What `serving/router/fleet_router.py` does, without Ray.

    Eight replicas publish twice a second.
    """

    def __init__(self, front: FrontDoor) -> None:
        self._clock = front.clock
        self._publish = front.replica.publish
        self._replicas = [PublishedReplica(ReplicaId(f"replica-{i:08}")) for i in range(REPLICAS)]
        policy = RoutingPolicy(STATS_PERIOD_S, random.Random(1).random)
        self._picker = ReplicaPicker(policy, self._clock)
        self._published_at = -1.0

    def publish_if_due(self) -> None:
        """Between two requests; Ray carries it."""
        self._clock.now += TICK_S / REPLICAS
        if self._clock.now - self._published_at >= STATS_PERIOD_S:
            self._published_at = self._clock.now
            for replica in self._replicas:
                replica.routing_stats = {**self._publish(), "wait_s": random.random()}

    def pick(self, prompt: Prompt) -> Picked:
        """The replica for a prompt."""
        return self._picker.pick(self._replicas, prompt)

    def has_replicas(self) -> bool:
        """Whether there is any."""
        return bool(self._replicas)

    def fleet(self) -> list[dict[str, Any]]:
        """What each replica published last."""
        return [replica.routing_stats for replica in self._replicas]


def chats(size: int, seed: int = 1) -> Iterator[bytes]:
    """Bodies of about `size` bytes without end: common system prompts, turns of a few hundred."""
    rng = random.Random(seed)
    systems = [_text(rng, size // 4) for _ in range(20)]
    while True:
        messages = [{"role": "system", "content": rng.choice(systems)}]
        left = size - size // 4 - 150
        while left > 0:
            text = _text(rng, min(left, 400))
            messages.append({"role": ("assistant", "user")[len(messages) % 2], "content": text})
            left -= len(text) + 40
        body = {"model": "demo", "messages": messages, "max_tokens": ANSWER, "stream": True}
        yield json.dumps(body).encode()


def _text(rng: random.Random, size: int) -> str:
    return " ".join(rng.choices(_WORDS, k=size // 3 + 1))[: max(size, 1)]


def receiving(body: bytes) -> Receive:
    """A client that has sent its body and waits."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
