"""`/forebay/status`: what is asked of whom, how often, and what is told when somebody is away."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_serve import Handle
from gate_world import Clock

from forebay.serving.control import FleetStatus, ask_scaling_log, fleet_status
from forebay.serving.control.fleet_status import ScalingLogHandle
from forebay.serving.http import RequestRefusedError
from forebay.serving.scaling import scaling_log

STATE = {"draining": False, "classes": {}, "tenants": {}}


class Fleet:
    """Routers and a log of decisions that note what they are asked."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.routers_asked = 0
        self.decisions_asked: list[int] = []
        self.log_fails: Callable[[], Any] | None = None
        self.status = FleetStatus("s", self._routers, self.clock, self._decisions)

    async def _routers(self) -> list[dict[str, Any]]:
        self.routers_asked += 1
        return [{"status": STATE}]

    async def _decisions(self, count: int) -> list[dict[str, Any]]:
        self.decisions_asked.append(count)
        if self.log_fails is not None:
            await self.log_fails()
        return [{"at": float(at), "allowed": {"missing": 0}} for at in range(count)]

    async def told(self, query: bytes = b"") -> dict[str, Any]:
        told: dict[str, Any] = json.loads(await self.status.body("", query))
        return told


async def raising() -> None:
    raise RuntimeError("no such actor")


@pytest.mark.parametrize("fails", [raising, asyncio.Event().wait])
async def test_a_log_that_is_away_takes_nothing_else_away(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[], Any]
) -> None:
    monkeypatch.setattr(fleet_status, "_LOG_S", 0.02)
    made = Fleet()
    made.log_fails = fails
    told = await made.told()
    assert (len(told["replicas"]), told["scaling"], told["missing"]) == (1, [], 0)
    assert (await made.told(b"decisions=100"))["scaling"] == []


async def test_however_many_decisions_are_asked_for_the_log_is_asked_for_so_many_and_seldom() -> (
    None
):
    made = Fleet()
    for count, expected in ((999_999_999, 500), (500, 500), (300, 300), (20, 20), (7, 20)):
        for _ in range(3):
            told = await made.told(b"decisions=%d" % count)
            assert len(told["scaling"]) == expected
            assert told["scaling"][-1]["at"] == (499.0 if expected > 20 else 19.0)
    assert made.decisions_asked == [20, 500]
    made.clock.now += 1.0
    await made.told(b"decisions=21")
    await made.told(b"decisions=22")
    assert made.decisions_asked == [20, 500, 20, 500]
    assert made.routers_asked == 2


async def test_who_asks_for_no_number_is_told_so() -> None:
    with pytest.raises(RequestRefusedError, match="decisions=many is not a number"):
        await Fleet().told(b"decisions=many")


class Log:
    """A log actor; how often it is looked for, and in which thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found_in: list[threading.Thread] = []
        self.dead = False
        self.waits = threading.Event()
        self.waits.set()
        monkeypatch.setattr(scaling_log, "scaling_log", self._look)

    def _look(self, service: str) -> Any:
        self.waits.wait(5.0)
        self.found_in.append(threading.current_thread())
        return Handle(last=self._called, activate=self._called)

    async def _called(self, what: float) -> Any:
        if self.dead:
            raise RuntimeError("the actor died")
        return [what]


async def test_the_log_is_looked_for_once_and_never_on_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log(monkeypatch)
    handle = ScalingLogHandle("s")
    assert [await handle.ask("activate", 1.0) for _ in range(3)] == [[1.0]] * 3
    assert len(log.found_in) == 1
    assert log.found_in[0] is not threading.current_thread()


async def test_a_log_that_died_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(monkeypatch)
    handle = ScalingLogHandle("s")
    log.dead = True
    with pytest.raises(RuntimeError, match="died"):
        await handle.ask("activate", 1.0)
    assert await ask_scaling_log("s")(3) == []
    log.dead = False
    assert await handle.ask("activate", 2.0) == [2.0]


async def test_who_gives_up_waiting_has_it_looked_for_by_one_thread_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log(monkeypatch)
    log.waits.clear()
    handle = ScalingLogHandle("s")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.ask("activate", 1.0), 0.01)
    log.waits.set()
    assert await handle.ask("activate", 1.0) == [1.0]
    assert len(log.found_in) == 1
