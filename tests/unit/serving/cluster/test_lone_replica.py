"""Asking a fleet that stays at one replica, from the process that started it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fake_serve import Handle, serve_status
from ray import serve
from services import service

from forebay.serving.cluster.lone_replica import LoneReplica


class Cluster:
    """What Serve says of the service, and the replica that it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, states: dict[str, int] | None) -> None:
        self.called: list[str] = []
        told = serve_status(None if states is None else {"any": states})
        monkeypatch.setattr(serve, "status", lambda: told)
        monkeypatch.setattr(serve, "get_app_handle", self.handle)

    def handle(self, name: str) -> Any:
        assert name == "s"
        return Handle(**{m: self.call(m) for m in ("record_routing_stats", "begin_drain")})

    def call(self, name: str) -> Any:
        def remote() -> Any:
            self.called.append(name)
            return SimpleNamespace(result=lambda timeout_s: {"sequence": 7, "within": timeout_s})

        return remote


def lone() -> LoneReplica:
    return LoneReplica(service(), 5.0)


def test_a_replica_that_runs_is_asked_and_given_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    Cluster(monkeypatch, {"RUNNING": 1})
    assert lone().fleet() == [{"sequence": 7, "within": 5.0}]


@pytest.mark.parametrize("states", [None, {}, {"STARTING": 1}, {"STOPPING": 1}])
def test_nobody_waits_for_a_replica_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, states: dict[str, int] | None
) -> None:
    cluster = Cluster(monkeypatch, states)
    assert lone().fleet() == []
    lone().drain()
    assert cluster.called == []


def test_draining_tells_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(monkeypatch, {"RUNNING": 1, "STARTING": 1})
    lone().drain()
    assert cluster.called == ["begin_drain"]
