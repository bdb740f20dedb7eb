"""Asking a fleet that stays at one replica, from the process that started it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray import serve

from forebay.serving.cluster.lone_replica import LoneReplica
from forebay.spec.service import ServiceSpec

SPEC = {"name": "s", "model": {"id": "m", "source": "demo-cpu", "engine": "emulated"}}


class Cluster:
    """What Serve says of the service, and the replica that it has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, states: dict[str, int] | None) -> None:
        self.called: list[str] = []
        replicas = SimpleNamespace(replica_states=states)
        apps = {} if states is None else {"s": SimpleNamespace(deployments={"any": replicas})}
        monkeypatch.setattr(serve, "status", lambda: SimpleNamespace(applications=apps))
        monkeypatch.setattr(serve, "get_app_handle", self.handle)

    def handle(self, name: str) -> Any:
        assert name == "s"
        methods = ("record_routing_stats", "begin_drain")
        return SimpleNamespace(**{m: SimpleNamespace(remote=self.call(m)) for m in methods})

    def call(self, name: str) -> Any:
        def remote() -> Any:
            self.called.append(name)
            return SimpleNamespace(result=lambda timeout_s: {"sequence": 7, "within": timeout_s})

        return remote


def lone() -> LoneReplica:
    return LoneReplica(ServiceSpec.model_validate(SPEC), 5.0)


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
