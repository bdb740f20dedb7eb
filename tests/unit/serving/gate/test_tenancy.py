"""What tenants see at the gate: their keys, classes, quotas, and nobody else's cache."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from gate_world import (
    CHAT,
    STOP,
    Answer,
    Clock,
    FakeEngineRequest,
    FakeOutput,
    FakeParams,
    World,
    responding,
    serving,
)

from forebay.observability import catalogue
from forebay.policies.quotas import Charge, Refused
from forebay.policies.quotas.quota_terms import QuotaDemand
from forebay.policies.request import BATCH, INTERACTIVE, Admitted, Cost, Sequence, Ticket
from forebay.serving.control import FleetLedger, FleetStatus
from forebay.serving.gate import Answer as FleetAnswer
from forebay.serving.gate import Report, tenancy
from forebay.serving.gate.tenancy import Caller
from forebay.serving.http import Receive, RequestRefusedError, Scope, Send
from forebay.serving.names import STATUS_PATH
from forebay.spec.tenants import key_hash, new_key, tenants_file

KEYS = {name: new_key() for name in ("shop", "lab", "partner", "night")}
SECRET_FREE = ("fb_", "sha256:")


def write_tenants(file: Path, **more: dict[str, Any]) -> None:
    tenants = [
        {"name": name, "key_hashes": [key_hash(key)], **more.get(name, {})}
        for name, key in KEYS.items()
    ]
    file.write_text(json.dumps({"tenants": tenants}))  # JSON is YAML


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tenants.yaml"
    write_tenants(
        path,
        shop={"cache_group": "retail"},
        partner={"cache_group": "retail"},
        night={"highest_class": "batch"},
        lab={"max_concurrency": 2, "tokens_per_minute": 1_000},
    )
    return path


@pytest.fixture(name="world")
def keyed_world(file: Path) -> World:
    return serving(tenants=str(file))


async def ask(world: World, tenant: str | None, **headers: str) -> Answer:
    key = {} if tenant is None else {"authorization": f"Bearer {KEYS.get(tenant, tenant)}"}
    return await world.post("/v1/chat/completions", CHAT, headers={**key, **headers})


def share_quotas(world: World) -> None:
    """Two exchanges with a fleet's ledger that has listened long enough."""
    ledger = FleetLedger(world.clock.now - 60.0)
    for _ in range(2):
        world.clock.now += 1.0
        report = world.tenancy.report(world.clock.now)
        assert report is not None
        world.tenancy.answered(ledger.exchange(report, world.clock.now), world.clock.now)


@pytest.mark.parametrize("key", [None, "fb_" + "A" * 43, "", "Bearer"])
async def test_without_a_known_key_there_is_a_401_that_shows_nothing(
    world: World, key: str | None
) -> None:
    answer = await ask(world, key)
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not any(secret in answer.body.decode() for secret in SECRET_FREE)
    assert not world.seen
    assert world.telemetry.total(catalogue.OFFERED) == 0


async def test_a_key_opens_and_probes_need_none(world: World) -> None:
    assert (await ask(world, "shop")).status == 200
    anthropics = await world.post(
        "/v1/messages",
        {"messages": CHAT["messages"], "max_tokens": 4},
        headers={"x-api-key": KEYS["shop"]},
    )
    assert anthropics.status == 200
    assert len(world.seen) == 2
    assert (await world.post("/v1/models", b"", method="GET")).status == 401
    probed = World(responding(200, b"{}"), tenants=world.tenants)
    assert (await probed.post("/health", b"", method="GET")).status == 200


async def test_a_revoked_key_is_known_no_more_without_a_restart(world: World, file: Path) -> None:
    assert (await ask(world, "shop")).status == 200
    write_tenants(file, shop={"key_hashes": [key_hash(new_key())]})
    world.clock.now += 2.0
    assert (await ask(world, "shop")).status == 401
    assert (await ask(world, "partner")).status == 200
    write_tenants(file, shop={"weight": -1})
    world.clock.now += 2.0
    assert (await ask(world, "partner")).status == 200


async def test_while_the_file_is_watched_who_asks_does_not_wait_for_it_to_be_read(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenancy, "LOOK_EVERY_S", 0.0)
    read_by: set[threading.Thread] = set()

    def read(path: Path) -> str:
        read_by.add(threading.current_thread())
        return path.read_text()

    monkeypatch.setattr(tenants_file, "read_tenants_text", read)
    watching = asyncio.create_task(world.tenancy.watch())
    await asyncio.sleep(0)
    write_tenants(file, shop={"key_hashes": [key_hash(new_key())]})
    world.clock.now += 2.0
    async with asyncio.timeout(10.0):
        status = 200
        while status == 200:
            await asyncio.to_thread(time.sleep, 0.001)
            status = (await ask(world, "shop")).status
    assert status == 401
    assert read_by
    assert threading.current_thread() not in read_by
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    write_tenants(file)
    world.clock.now += 2.0
    assert (await ask(world, "shop")).status == 200, "nobody looks at the file any more"


async def test_a_tenant_of_the_batch_class_is_never_interactive(world: World) -> None:
    await ask(world, "night")
    await ask(world, "night", **{"x-forebay-class": "interactive"})
    assert world.telemetry.totals[catalogue.ADMITTED, (BATCH,)] == 2
    assert world.telemetry.totals[catalogue.ADMITTED, (INTERACTIVE,)] == 0


async def test_caches_are_shared_within_a_group_alone(world: World) -> None:
    for tenant in ("shop", "partner", "night", "shop"):
        assert (await ask(world, tenant)).status == 200
    shop, partner, night, again = (request.cache_salt for request in world.seen)
    assert shop == partner == again
    assert night not in (None, shop)
    assert not any(name in f"{shop}{night}" for name in (*KEYS, "retail"))


async def test_a_quota_that_is_used_up_is_said_with_the_time_to_come_back(world: World) -> None:
    first = await ask(world, "lab")
    assert (first.status, first.error["code"]) == (429, "quota")  # no part of the quota yet
    share_quotas(world)
    statuses = [(await ask(world, "lab")).status for _ in range(120)]
    served = statuses.count(200)
    assert 20 < served < 120  # more than it may have at once, one after the other
    assert world.telemetry.by_first_label(catalogue.TENANT_TOKENS)["lab"] <= 1_000
    refused = await ask(world, "lab")
    assert refused.error["code"] == "quota"
    assert int(refused.headers["retry-after"]) >= 1
    assert (await ask(world, "shop")).status == 200  # others are not touched


async def test_demand_is_what_a_quota_allows_at_whichever_attempt(world: World) -> None:
    again = {"x-stainless-retry-count": "1"}
    assert (await ask(world, "lab")).status == 429
    assert world.core.offered.sequences == 0
    share_quotas(world)
    assert (await ask(world, "lab", **again)).status == 200
    assert world.core.offered.sequences == 1
    assert (await ask(world, "shop", **again)).status == 200
    assert world.core.offered.sequences == 1  # its first attempt was counted


async def test_a_retry_was_counted_unless_its_quota_was_used_up_of_late(
    world: World,
) -> None:
    again = {"x-stainless-retry-count": "1"}
    share_quotas(world)
    assert (await ask(world, "lab", **again)).status == 200
    assert world.core.offered.sequences == 0  # refused, if at all, for the engine's sake
    while (answer := await ask(world, "lab")).status == 200:
        pass
    assert answer.error["code"] == "quota"
    counted = world.core.offered.sequences
    for waited_s, share in ((70.0, 1), (130.0, 0)):
        world.clock.now += waited_s
        share_quotas(world)
        assert (await ask(world, "lab", **again)).status == 200
        counted += share
        assert world.core.offered.sequences == counted


async def test_what_was_waited_for_the_fleets_word_is_no_time_left(world: World) -> None:
    share_quotas(world)
    held = world.admission.decide(Cost(1, 600, 10, 10), INTERACTIVE, world.clock.now, "shop")
    assert isinstance(held, Admitted)

    async def slowly(
        caller: Caller, tokens: int, now: float, most: int = 0, least: int = 0
    ) -> Charge | Refused:
        world.clock.now += 0.5
        return Charge(now, tokens)

    world.tenancy.spend = slowly  # type: ignore[method-assign]
    assert (await ask(world, "partner")).error["code"] == "ttft_budget"
    assert not world.seen


async def test_what_was_waited_for_the_fleets_word_is_part_of_the_ttft(world: World) -> None:
    spend = world.tenancy.spend

    async def slowly(
        caller: Caller, tokens: int, now: float, most: int = 0, least: int = 0
    ) -> Charge | Refused:
        world.clock.now += 0.25
        return await spend(caller, tokens, now, most, least)

    world.tenancy.spend = slowly  # type: ignore[method-assign]
    assert (await ask(world, "shop")).status == 200
    assert world.telemetry.recent_ttft()["ttft_p50"] == pytest.approx(0.25, abs=0.1)


async def test_quotas_that_come_and_go_undo_only_their_own_charges(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    limits = {"max_concurrency": 4, "tokens_per_minute": 100_000}
    write_tenants(file)
    leave = [asyncio.Event() for _ in range(3)]
    arrived = 0

    async def until_told(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal arrived
        mine, arrived = leave[arrived], arrived + 1
        await mine.wait()
        await responding(200, b"{}")(scope, receive, send)

    world = World(until_told, tenants=str(file))

    async def begin() -> asyncio.Task[Answer]:
        before, task = arrived, asyncio.create_task(ask(world, "lab"))
        while arrived == before:
            assert not task.done(), task.result().body
            await asyncio.sleep(0)
        return task

    def reload(**more: Any) -> None:
        write_tenants(file, **more)
        world.clock.now += 2.0

    def running() -> int:
        return sum(demand.use for demand in demands(world, "slots"))

    free = await begin()  # before there is any quota
    reload(lab=limits)
    await ask(world, "nobody")  # reads the file
    share_quotas(world)
    charged = await begin()
    assert running() == 1
    leave[0].set()
    await free
    assert running() == 1, "a request that was never charged has freed a slot"
    reload()
    await ask(world, "nobody")
    reload(lab=limits)
    await ask(world, "nobody")
    share_quotas(world)
    again = await begin()
    assert running() == 2, "a request that still runs was forgotten while there was no quota"
    for event, task in ((leave[1], charged), (leave[2], again)):
        event.set()
        await task
    assert running() == 0


def demands(world: World, resource: str) -> list[QuotaDemand]:
    """What the replica would report of one resource now."""
    world.clock.now += 1.0
    report = world.tenancy.report(world.clock.now)
    assert report is not None
    assert report.lease is not None
    return [demand for demand in report.lease.demands if demand.key[1] == resource]


async def test_what_a_refused_request_would_have_used_is_given_back(world: World) -> None:
    share_quotas(world)
    world.admission.draining = True
    for _ in range(50):
        assert (await ask(world, "lab")).error["code"] == "draining"
    world.admission.draining = False
    assert (await ask(world, "lab")).status == 200


async def test_tenants_tokens_are_counted_to_the_last(world: World) -> None:
    await ask(world, "shop")
    counted = world.telemetry.by_first_label(catalogue.TENANT_TOKENS)["shop"]
    produced = world.telemetry.total(catalogue.OUTPUT_TOKENS)
    prompts = world.telemetry.total(catalogue.PROMPT_TOKENS)
    assert counted == produced + prompts > 0


async def test_a_tenant_sees_its_own_share_of_the_fleet_and_no_other(world: World) -> None:
    shown = {"draining": False, "classes": {}, "tenants": {"shop": 9.0, "lab": 1.0}}

    async def routers() -> list[dict[str, Any]]:
        return [{"status": shown}]

    world.gate.fleet = FleetStatus("s", routers, world.clock)
    answer = await world.post(
        STATUS_PATH, b"", method="GET", headers={"authorization": f"Bearer {KEYS['shop']}"}
    )
    assert answer.json["tenants"] == {"shop": {"tokens": 9.0, "share": 0.9}}
    assert "lab" not in answer.body.decode()
    assert (await world.post(STATUS_PATH, b"", method="GET")).status == 401


async def test_more_of_the_decisions_are_told_to_who_asks() -> None:
    async def routers() -> list[dict[str, Any]]:
        return []

    async def decisions(count: int) -> list[dict[str, Any]]:
        return [{"at": float(at), "allowed": {"missing": 0}} for at in range(count)]

    status = FleetStatus("s", routers, Clock(), decisions)
    assert len(json.loads(await status.body(""))["scaling"]) == 20
    assert len(json.loads(await status.body("", b"x=1&decisions=500"))["scaling"]) == 500
    with pytest.raises(RequestRefusedError, match="decisions=many is not a number"):
        await status.body("", b"decisions=many")


async def test_routers_that_do_not_answer_are_a_503(world: World) -> None:

    async def routers() -> list[dict[str, Any]]:
        raise RuntimeError("the ingress is gone")

    world.gate.fleet = FleetStatus("s", routers, world.clock)
    headers = {"authorization": f"Bearer {KEYS['shop']}"}
    answer = await world.post(STATUS_PATH, b"", method="GET", headers=headers)
    assert (answer.status, answer.error["code"]) == (503, "status_unavailable")


async def test_who_was_served_where_others_did_not_compete_waits_longer_here(
    world: World,
) -> None:
    for tenant in ("shop", "lab"):
        await ask(world, tenant)
    ledger = FleetLedger(world.clock.now - 60.0)
    world.tenancy.turned_away(Caller("lab"), "interactive", Charge(0.0, 500), world.clock.now)
    elsewhere = Report("r2", None, {}, {}, {"interactive": {"shop": 9_000.0}}, {})
    ledger.exchange(elsewhere, world.clock.now)  # ends the round before anybody here had reported
    for report in (world.tenancy.report(world.clock.now + 1), elsewhere):
        assert report is not None
        ledger.exchange(report, world.clock.now)
    world.clock.now += 2.0
    report = world.tenancy.report(world.clock.now)
    assert report is not None
    answer = ledger.exchange(report, world.clock.now)
    assert set(answer.elsewhere["interactive"]) == {"shop"}
    world.tenancy.answered(answer, world.clock.now)
    tags = {t: world.admission.fair.preview(t, "interactive") for t in ("shop", "lab")}
    assert tags["shop"] > tags["lab"]


async def test_nobody_is_set_back_by_more_than_a_few_exchanges_serve(
    world: World,
) -> None:
    for tenant in ("shop", "lab"):
        await ask(world, tenant)
    report = world.tenancy.report(world.clock.now + 1)
    assert report is not None
    served = sum(report.served["interactive"].values())
    charged = FleetAnswer(None, {"interactive": {"shop": 1e9}})
    world.tenancy.answered(charged, world.clock.now + 1)
    fair = world.admission.fair
    shop = fair.preview("shop", "interactive")
    assert 0.0 < fair.rooms_before(shop, [("lab", "interactive")])[0] <= 10 * served


async def test_an_answer_is_charged_while_it_is_made(file: Path) -> None:
    going_on, begun = asyncio.Event(), asyncio.Event()

    async def long_answer(scope: Scope, receive: Receive, send: Send) -> None:
        world.tap.on_add(FakeEngineRequest("r", [1] * 10, FakeParams(4000)))
        world.tap.on_step([FakeOutput("r", [7] * 600)], None)
        begun.set()
        await going_on.wait()
        world.tap.on_step([FakeOutput("r", [7], STOP)], None)
        await responding(200, b"{}")(scope, receive, send)

    world = World(long_answer, tenants=str(file))
    share_quotas(world)
    answer = asyncio.create_task(ask(world, "lab"))
    await begun.wait()
    assert [demand.use for demand in demands(world, "tokens")] == [610]
    going_on.set()
    await answer
    assert [demand.use for demand in demands(world, "tokens")] == [611]


async def test_what_is_given_back_leaves_the_second_in_which_it_was_charged(world: World) -> None:
    share_quotas(world)
    world.clock.now = 200.999
    charge = await world.tenancy.spend(Caller("lab"), 900, world.clock.now)
    assert isinstance(charge, Charge)
    world.clock.now = 201.001
    world.tenancy.turned_away(Caller("lab"), "interactive", charge, world.clock.now)
    assert isinstance(await world.tenancy.spend(Caller("lab"), 900, world.clock.now), Charge)


async def test_that_answers_may_be_long_is_no_reason_to_say_never(
    world: World,
) -> None:
    share_quotas(world)
    body = {**{name: value for name, value in CHAT.items() if name != "max_tokens"}, "n": 4}
    key = {"authorization": f"Bearer {KEYS['lab']}"}
    refused = await world.post("/v1/chat/completions", body, headers=key)
    assert (refused.status, refused.error["code"]) == (429, "quota")
    assert "never fits" not in refused.error["message"]
    share_quotas(world)
    assert (await world.post("/v1/chat/completions", body, headers=key)).status == 200


@pytest.mark.parametrize("more", [{"min_tokens": 400}, {"ignore_eos": True}])
async def test_answers_that_have_to_be_long_do_not_pass_the_quota_together(
    file: Path, more: dict[str, Any]
) -> None:
    write_tenants(file, lab={"tokens_per_minute": 2_000})
    going_on, running = asyncio.Event(), 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running
        running += 1
        await going_on.wait()
        await responding(200, b"{}")(scope, receive, send)

    world = World(app, tenants=str(file), slots=100)
    for _ in range(600):
        world.admission.costs.outputs.passed(0, 4)
        world.admission.costs.outputs.ended(4, natural=True)
    share_quotas(world)
    body = {**CHAT, "max_tokens": 400, **more}
    key = {"authorization": f"Bearer {KEYS['lab']}"}
    asked = [
        asyncio.create_task(world.post("/v1/chat/completions", body, headers=key))
        for _ in range(20)
    ]
    await asyncio.sleep(0.1)
    assert running == 2, "half of the quota is here"
    going_on.set()
    await asyncio.gather(*asked)


async def test_a_request_that_never_fits_is_told_by_which_limit(world: World) -> None:
    share_quotas(world)
    body = {**CHAT, "max_tokens": 2_000, "min_tokens": 2_000}
    key = {"authorization": f"Bearer {KEYS['lab']}"}
    refused = await world.post("/v1/chat/completions", body, headers=key)
    assert (refused.status, refused.error["code"]) == (429, "quota")
    assert "tokens_per_minute" in refused.error["message"]
    assert "never fits" in refused.error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert 3_600 <= int(refused.headers["retry-after"]) <= 7_200


async def test_a_tenants_long_answers_are_charged_as_such_once_some_were_seen(world: World) -> None:
    share_quotas(world)
    lab, tenancy = Caller("lab"), world.tenancy

    async def answered(used: int) -> Charge:
        charge = await tenancy.spend(lab, 20, world.clock.now, 300)
        assert isinstance(charge, Charge)
        ticket = Ticket(INTERACTIVE, 0, Cost(1, 10, 10, 290), 0.0, 1.0, 0.1, "lab")
        ticket.sequences.append(Sequence(ticket, used - 1, 0, 290, 10, produced=1))
        tenancy.let_in(ticket, charge)
        tenancy.ended(ticket, world.clock.now)
        return charge

    assert (await answered(100)).charged == 20
    assert (await answered(100)).charged == 100
    assert [demand.use for demand in demands(world, "tokens")] == [200]
    assert (await answered(20)).charged == 100
    assert [demand.use for demand in demands(world, "tokens")] == [220]
    assert (await answered(20)).charged < 100


async def test_who_leaves_before_anything_was_computed_teaches_nothing(world: World) -> None:
    share_quotas(world)
    world.tenancy.lease.learn("lab", 20, 200)
    for _ in range(50):
        charge = await world.tenancy.spend(Caller("lab"), 20, world.clock.now, 300)
        assert isinstance(charge, Charge)
        assert charge.charged == 200
        ticket = Ticket(INTERACTIVE, 0, Cost(1, 10, 10, 290), 0.0, 1.0, 0.1, "lab")
        world.tenancy.let_in(ticket, charge)
        world.tenancy.ended(ticket, world.clock.now)


async def test_an_error_of_admission_leaves_no_charge_behind(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_quotas(world)

    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(world.admission, "decide", fails)
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                await ask(world, "lab")
    assert [demand.use for demand in demands(world, "slots")] == [0]
    assert [demand.use for demand in demands(world, "tokens")] == [0]
    assert (await ask(world, "lab")).status == 200


def break_off(file: Path) -> None:
    file.write_text("tenants: [")


async def test_a_wrong_file_is_told_in_the_log_that_serve_writes(
    file: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    break_off(file)
    world.clock.now += 2.0
    assert (await ask(world, "shop")).status == 200
    (told,) = [one for one in caplog.records if "kept as it was" in one.getMessage()]
    assert told.name == "ray.serve"
