"""The gate, the emulated engine behind it, and the simulator decide alike, request by request.

The same requests go through HTTP bodies, the gate, the engine hooks and the emulated engine on an
event loop in virtual time, and through `simulate/simulated_replica.py`. Both carry out what
`policies/replica.py` says; what it was offered and what it answered is written down and compared.
"""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from services import MODEL, limits_of, replica, service
from virtual_loop import VirtualAlarm, run

from forebay.engine_model import PROFILES
from forebay.policies.replica import ReplicaCore
from forebay.policies.request import BATCH, INTERACTIVE, AdmissionConfig, Decision, Shed
from forebay.serving.app.emulated_server import served
from forebay.serving.emulated import STOP, EmulatedEngine, teach
from forebay.serving.emulated import emulated_engine as emulated
from forebay.serving.emulated.api import EmulatedApi
from forebay.serving.emulated.questions import natural_length
from forebay.serving.http import Message
from forebay.simulate import GatedReplica, Outcome, SimRequest

COUNT = 2_000
STARTS_AT = 1.0  # seconds
ENGINE = served(replace(PROFILES["h100-8b"], prefix_caching=False, max_num_seqs=32))


@dataclass(frozen=True)
class Decided:
    """What the core answered to one offer; seconds to nine digits."""

    at_s: str
    class_name: str
    outcome: str
    predicted_s: str


class Book:
    """Writes down what a core decides."""

    def __init__(self, core: ReplicaCore) -> None:
        self.decided: list[Decided] = []
        offer = core.offer

        def noted(cost: Any, flow: tuple[str, str], now: float, **more: Any) -> Decision:
            decision = offer(cost, flow, now, **more)
            outcome = decision.reason if isinstance(decision, Shed) else "admitted"
            seconds = f"{decision.predicted_s:.9g}"
            self.decided.append(Decided(f"{now:.9g}", flow[1], outcome, seconds))
            return decision

        core.offer = noted  # type: ignore[method-assign]


def asked(seed: int) -> list[SimRequest]:
    """Short and long prompts, a tenth of batch; the rate rises beyond the capacity."""
    rng, at, found = random.Random(seed), STARTS_AT, []
    for number in range(COUNT):
        at += rng.expovariate(8.0 + 40.0 * number / COUNT)
        prompt, most = rng.choice([200, 200, 1_000, 1_000, 4_000]), rng.randint(20, 400)
        name = BATCH if rng.random() < 0.1 else INTERACTIVE
        answer = natural_length(prompt_ids(number, prompt))
        found.append(SimRequest(number, at, prompt, answer, most, class_name=name))
    return found


def prompt_ids(number: int, tokens: int) -> list[int]:
    return [number] * tokens


def simulated(
    asks: list[SimRequest], config: AdmissionConfig, *, skip: bool
) -> tuple[list[Decided], dict[str, int]]:
    replica = GatedReplica("r1", ENGINE, config, teach, default_output=DEFAULT_OUTPUT, skip=skip)
    book, fates = Book(replica.core), []
    for ask in asks:
        fates.append(Outcome(ask))
        replica.advance(ask.at_s)
        replica.arrive(fates[-1], ask.at_s)
    replica.advance(1e6)
    outcomes = [fate.outcome for fate in fates]
    return book.decided, {name: outcomes.count(name) for name in ("ok", "shed", "deadline")}


SPEC = service(model={**MODEL, "source": "h100-8b"}, scaling={"min": 1, "max": 2})
DEFAULT_OUTPUT = SPEC.admission.default_output_tokens
STATUS_OF = {200: "ok", 429: "shed", 503: "deadline"}


async def _served(asks: list[SimRequest]) -> tuple[list[Decided], dict[str, int], AdmissionConfig]:
    loop = asyncio.get_running_loop()
    engine = EmulatedEngine(ENGINE, loop.time)
    limits = limits_of(ENGINE, stop_reason=STOP, heeds_marks=ENGINE.forebay_scheduler)
    made = replica(SPEC, limits, clock=loop.time)
    engine.attach(made.tap)
    teach(made.admission, ENGINE)
    book, gate = Book(made.core), made.gate(EmulatedApi(engine, "m"))

    async def ask_one(ask: SimRequest) -> str:
        await asyncio.sleep(ask.at_s - loop.time())
        return STATUS_OF[await _post(gate, ask)]

    outcomes = await asyncio.gather(*map(ask_one, asks))
    made.core.check_integrity()
    assert not made.admission.ledger.tickets
    engine.close()
    counts = {name: outcomes.count(name) for name in ("ok", "shed", "deadline")}
    return book.decided, counts, made.admission.config


async def _post(gate: Any, ask: SimRequest) -> int:
    """The status of the answer."""
    body = {
        "model": "m",
        "prompt": prompt_ids(ask.number, ask.prompt),
        "max_tokens": ask.max_tokens,
        "stream": True,
    }
    pending = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
    status = 0

    async def receive() -> Message:
        if pending:
            return pending.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    headers = [
        (b"content-type", b"application/json"),
        (b"x-forebay-class", ask.class_name.encode()),
    ]
    scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": headers}
    await gate(scope, receive, send)
    return status


@pytest.mark.parametrize("seed", [1, 2])
def test_the_gate_and_the_simulator_decide_alike(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated, "Alarm", VirtualAlarm)
    asks = asked(seed)
    at_the_gate, counts, config = run(_served(asks))
    assert len(at_the_gate) == COUNT
    assert simulated(asks, config, skip=False) == (at_the_gate, counts)
    # Learned of several equal steps together, rates differ in a late digit, and decisions do not.
    quickly, quick_counts = simulated(asks, config, skip=True)
    assert [one.outcome for one in quickly] == [one.outcome for one in at_the_gate]
    assert quick_counts == counts
    assert counts["ok"] > COUNT / 4
    assert counts["shed"] > COUNT / 10, "nothing was decided against"
