"""A replica's talk with the fleet's ledger: what it says when it stops."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_serve import Handle
from gate_world import World, responding, serving

from forebay.policies.quotas import Charge, LeaseRequest, Quota, QuotaLease
from forebay.policies.request import INTERACTIVE, Cost, Sequence, Ticket
from forebay.serving.control import FleetLedger, QuotaSync
from forebay.serving.control import quota_sync as module
from forebay.serving.control.quota_sync import FleetActor
from forebay.serving.gate import Answer, Report
from forebay.serving.gate.tenancy import Caller
from forebay.serving.http import Message, Receive, Scope, Send
from forebay.spec.tenants import key_hash, new_key


@pytest.fixture
def tenants(tmp_path: Path) -> str:
    file = tmp_path / "tenants.yaml"
    lab = {"name": "lab", "key_hashes": [key_hash(new_key())], "tokens_per_minute": 1_000}
    file.write_text(json.dumps({"tenants": [lab]}))
    return str(file)


class Ledger:
    """Stands for the actor; answers when it is told to."""

    def __init__(self) -> None:
        self.heard: list[Report] = []
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.exchange = SimpleNamespace(remote=self._remote)

    async def _remote(self, report: Report) -> Answer:
        self.heard.append(report)
        self.was_asked.set()
        await self.may_answer.wait()
        return Answer(None, {})


def is_goodbye(report: Report) -> bool:
    return report.lease is not None and report.lease.leaving


async def test_the_goodbye_is_said_though_another_report_is_under_way(tenants: str) -> None:
    world = serving(tenants=tenants)
    exchange, ledger = QuotaSync(world.tenancy, "s"), Ledger()
    exchange._actor = ledger
    world.tenancy.say_goodbye = exchange.goodbye
    ordinary = asyncio.create_task(exchange.now())
    await ledger.was_asked.wait()
    leaving = asyncio.create_task(world.tenancy.leave())
    await asyncio.sleep(0)
    ledger.may_answer.set()
    await asyncio.gather(ordinary, leaving)
    assert [is_goodbye(report) for report in ledger.heard] == [False, True]


async def test_a_gate_that_shuts_down_says_goodbye_before_its_engine_stops(tenants: str) -> None:
    order: list[str] = []

    async def engine(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        order.append("engine stops")

    world = World(engine, tenants=tenants)

    async def goodbye() -> None:
        report = world.tenancy.report(world.clock.now)
        assert report is not None
        assert is_goodbye(report)
        order.append("goodbye")

    world.tenancy.say_goodbye = goodbye
    told: list[Message] = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]

    async def receive() -> Message:
        return told.pop()

    async def send(message: Message) -> None:
        order.append(message["type"])

    await world.gate({"type": "lifespan"}, receive, send)
    assert order == ["lifespan.startup.complete", "goodbye", "engine stops"]


async def test_without_quotas_nobody_is_told(tmp_path: Path) -> None:
    world = World(responding(200, b"{}"))
    told: list[str] = []

    async def goodbye() -> None:
        told.append("goodbye")

    world.tenancy.say_goodbye = goodbye
    await world.tenancy.leave()
    assert not told


async def test_while_the_ledger_is_looked_for_streams_go_on_and_one_thread_looks(
    tenants: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, found = 0, threading.Event()
    ledger = Ledger()
    ledger.may_answer.set()

    def actor(service: str) -> Ledger:
        nonlocal looks
        looks += 1
        found.wait()
        return ledger

    monkeypatch.setattr(module, "_actor", actor)
    monkeypatch.setattr(module, "_ANSWER_S", 0.01)
    world = serving(tenants=tenants)
    exchange = QuotaSync(world.tenancy, "s")
    for _ in range(3):
        await exchange.now()
    assert not ledger.heard
    found.set()
    monkeypatch.setattr(module, "_ANSWER_S", 5.0)
    await exchange.now()
    assert len(ledger.heard) == looks == 1


async def test_a_ledger_that_cannot_be_made_is_not_tried_again_at_once(
    tenants: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def actor(service: str) -> Ledger:
        nonlocal looks
        looks += 1
        raise ValueError("no room")

    monkeypatch.setattr(module, "_actor", actor)
    world = serving(tenants=tenants)
    exchange = QuotaSync(world.tenancy, "s")
    for _ in range(3):
        await exchange.now()
    assert looks == 1
    assert world.tenancy.apart
    exchange._look_at = 0.0
    await exchange.now()
    assert looks == 2


async def test_answers_are_charged_as_they_grow_while_there_is_no_ledger(
    tenants: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_actor", lambda _: threading.Event().wait(1.0))
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    monkeypatch.setattr(module, "_GROWTH_S", 0.02, raising=False)
    world = serving(tenants=tenants)
    ticket = Ticket(INTERACTIVE, 0, Cost(1, 10, 10, 900), 0.0, 1.0, 0.1, "lab")
    ticket.sequences.append(Sequence(ticket, 10, 0, 900, 10, produced=500))
    charge = Charge(0.0, 20, ("tokens",))
    world.tenancy.let_in(ticket, charge)
    forever = asyncio.create_task(QuotaSync(world.tenancy, "s").forever())
    await asyncio.sleep(0.2)
    forever.cancel()
    assert charge.charged == 510


class FleetOf2:
    """The ledger of this replica and one that holds nothing, behind a network."""

    def __init__(self, delay_s: float) -> None:
        self._ledger = FleetLedger(time.monotonic() - 60.0)
        self._delay_s = delay_s
        self.exchanges = 0
        self.exchange = SimpleNamespace(remote=self._remote)

    async def _remote(self, report: Report) -> Answer:
        self.exchanges += 1
        now = time.monotonic()
        other = LeaseRequest("r2", self.exchanges, ())
        self._ledger.exchange(Report("r2", other, report.quotas, {}, {}, {}), now)
        answer = self._ledger.exchange(report, now)
        await asyncio.sleep(self._delay_s)
        return answer


@pytest.mark.parametrize("delay_s", [0.0, 0.2])
async def test_what_the_fleet_has_room_for_is_let_in_whatever_was_said_just_now(
    tenants: str, delay_s: float
) -> None:
    world = serving(tenants=tenants)
    world.clock = time.monotonic  # type: ignore[assignment]
    world.tenancy._clock = time.monotonic
    exchange = QuotaSync(world.tenancy, "s")
    exchange._actor = ledger = FleetOf2(delay_s)
    world.tenancy.ask_fleet = exchange.now
    await exchange.now()
    assert ledger.exchanges == 1
    world.tenancy.lease._urgent = delay_s > 0.0
    await asyncio.sleep(0.06 if delay_s else 0.0)
    under_way = asyncio.create_task(exchange.now())
    await asyncio.sleep(0.02)
    charge = await world.tenancy.spend(Caller("lab"), 950, time.monotonic())
    assert isinstance(charge, Charge)
    await under_way
    assert ledger.exchanges <= 3


async def test_a_ledger_that_does_not_answer_is_asked_once_for_a_request(tenants: str) -> None:
    world = serving(tenants=tenants)
    asked = 0

    async def ask_fleet() -> None:
        nonlocal asked
        asked += 1
        world.tenancy.apart = True

    world.tenancy.ask_fleet = ask_fleet
    assert not isinstance(await world.tenancy.spend(Caller("lab"), 10, 0.0), Charge)
    assert asked == 1


async def test_what_was_served_is_told_again_where_the_ledger_died(tenants: str) -> None:
    world = serving(tenants=tenants)
    exchange, ledger = QuotaSync(world.tenancy, "s"), Ledger()

    async def dead(report: Report) -> Answer:
        raise ConnectionError

    exchange._actor = Handle(exchange=dead)
    world.tenancy.turned_away(Caller("lab"), "batch", Charge(0.0, 30), 0.0)
    await exchange.now()
    world.tenancy.turned_away(Caller("lab"), "batch", Charge(0.0, 5), 0.0)
    ledger.may_answer.set()
    exchange._actor = ledger
    world.tenancy.lease.leave()  # so that a report is due
    await exchange.now()
    assert [report.refused for report in ledger.heard] == [{"batch": {"lab": 35.0}}]


class Actor:
    """The ledger as Ray has it, on a clock of the test's own, with a world of two replicas."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.alive = {"r1", "r2"}
        self.head_is_away = False
        self.looks: list[float] = []
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(module, "is_first_ledger", lambda _: True)
        monkeypatch.setattr(module, "_living_replicas", self._living)
        monkeypatch.setattr(module, "ThreadPoolExecutor", lambda _: self)
        self.actor = FleetActor("s")
        self.leases = {name: QuotaLease(name, {}) for name in ("r1", "r2")}
        for lease in self.leases.values():
            lease.set_quotas(SLOT)

    def submit(self, look: Callable[[], set[str]]) -> Future[set[str]]:
        """What a thread would do; Ray says nothing while its head is away."""
        found: Future[set[str]] = Future()
        if self.head_is_away:
            return found
        try:
            found.set_result(look())
        except RuntimeError as error:
            found.set_exception(error)
        return found

    def _living(self) -> set[str]:
        self.looks.append(self.now)
        if not self.alive:
            raise RuntimeError("no head")
        return self.alive

    def pass_time(self, seconds: float, reporting: Iterable[str]) -> None:
        for _ in range(round(seconds)):
            self.now += 1.0
            for name in reporting:
                request = self.leases[name].request(self.now)
                answer = self.actor.exchange(Report(name, request, SLOT, {}, {}, {}))
                if answer.grant is not None:
                    self.leases[name].granted(answer.grant, self.now)

    def serves(self, name: str) -> bool:
        """Whether it may begin a request, at least once it has asked."""
        for _ in range(2):
            if self.leases[name].try_spend("lab", 1, self.now) is None:
                return True
            self.pass_time(1, [name])
        return False


SLOT = {"lab": Quota(max_concurrency=1)}


def test_the_slot_of_a_replica_that_died_is_free_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet = Actor(monkeypatch)
    fleet.pass_time(3, ["r1", "r2"])
    assert not fleet.looks
    fleet.alive = {"r2"}
    fleet.pass_time(5, ["r2"])
    assert fleet.serves("r2")
    assert len(fleet.looks) == 1


@pytest.mark.parametrize("alive", [{"r1", "r2"}, set(), {"somebody"}])
def test_a_silent_replica_keeps_its_part_while_nobody_knows_that_it_died(
    monkeypatch: pytest.MonkeyPatch, alive: set[str]
) -> None:
    fleet = Actor(monkeypatch)
    fleet.pass_time(3, ["r1", "r2"])
    fleet.alive = alive
    fleet.pass_time(5, ["r2"])
    assert not fleet.serves("r2")
    assert fleet.looks
    assert len(set(map(int, fleet.looks))) == len(fleet.looks), "once a second at most"


def test_reports_are_answered_while_nobody_says_who_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Actor(monkeypatch)
    fleet.pass_time(3, ["r1", "r2"])
    fleet.head_is_away = True
    fleet.pass_time(5, ["r2"])
    assert not fleet.looks
    assert not fleet.leases["r2"].alone(fleet.now)
