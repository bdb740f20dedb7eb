"""A service from outside, with a fleet that is not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from forebay.observability import catalogue
from forebay.serving import platform
from forebay.serving.platform import Platform
from forebay.spec.service import ServiceSpec

SPEC = {"name": "s", "model": {"id": "m", "source": "demo-cpu", "engine": "emulated"}}


class Fleet:
    """One replica answers until second 3; another is ready from second 1 on and takes a request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.told: list[list[str]] = []
        self.broken_from = float("inf")
        monkeypatch.setattr(platform, "time", self)
        self.platform = Platform(ServiceSpec.model_validate({**SPEC, "scaling": {"max": 2}}))
        ingress = SimpleNamespace(drain=SimpleNamespace(remote=self.drain))
        monkeypatch.setattr(self.platform, "_ingress", lambda: ingress)
        monkeypatch.setattr(self.platform, "fleet", self.fleet)

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
            raise TimeoutError
        self.told.append(self.ready)

    def fleet(self) -> list[dict[str, Any]]:
        running = 1 if self.now < 3.0 else 0
        return [{catalogue.RUNNING.name: running, catalogue.QUEUED.name: 0} for _ in self.ready]


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

    monkeypatch.setattr(fleet.platform, "fleet", silent)
    assert fleet.platform.drain()
    assert fleet.now >= 3.0
