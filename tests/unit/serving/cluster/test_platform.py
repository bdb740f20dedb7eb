"""Joining, starting and leaving: what is not this service's is left alone, and nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray import serve
from ray.serve import context

from forebay.serving import cluster_kv
from forebay.serving.app import environment
from forebay.serving.cluster import EnvironmentFailedError, Platform, platform, preflight, processes
from forebay.serving.control import SharedTenants
from forebay.spec.service import ServiceSpec

MODEL = {"id": "m", "source": "org/model"}


def service(**more: Any) -> Platform:
    spec = {"name": "s", "model": MODEL, "hardware": {"accelerator": "cpu"}, **more}
    return Platform(ServiceSpec.model_validate(spec, context={"folder": Path()}))


@pytest.mark.parametrize("serves", [False, True])
def test_a_cluster_on_which_this_service_began_nothing_keeps_its_own(
    monkeypatch: pytest.MonkeyPatch, serves: bool
) -> None:
    """As where it is refused for what the cluster serves already, or interrupted before that."""
    called: list[str] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(serve, "shutdown", lambda: called.append("serve"))
    monkeypatch.setattr(platform, "end_ledger", lambda _: called.append("ledger"))
    monkeypatch.setattr(platform, "end_log", lambda _: called.append("log"))
    monkeypatch.setattr(ray, "shutdown", lambda: called.append("ray"))
    joined = service(server={"ray_address": "10.0.0.1:6379"})
    joined._connected, joined._serves = True, serves
    joined.stop()
    assert called == [*(["serve", "ledger", "log"] if serves else []), "ray"]


def test_interrupted_while_it_ends_processes_it_still_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    patience: list[float] = []

    def end(_: set[int], patience_s: float) -> None:
        patience.append(patience_s)
        if len(patience) < 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(processes, "end_descendants", end)
    stopped = service()
    stopped._folder = tmp_path / "folder"
    stopped._folder.mkdir()
    stopped.stop()
    assert patience[0] > 0.0
    assert patience[1:] == [0.0, 0.0]
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("hardware", "tensors", "there", "short"),
    [
        ({"accelerator": "cpu", "cpus_per_replica": 2}, 1, {"CPU": 2.0}, None),
        ({"accelerator": "cpu", "cpus_per_replica": 8}, 1, {"CPU": 2.0}, "8 CPU (2 here)"),
        ({"accelerator": "L4"}, 4, {"GPU": 1.0, "accelerator_type:L4": 1.0}, "4 GPU (1 here)"),
        ({"accelerator": "H100"}, 1, {"GPU": 1.0, "accelerator_type:A100": 1.0},
         "0.001 accelerator_type:H100 (0 here)"),
    ],
)  # fmt: skip
def test_a_replica_that_can_never_be_placed_here_is_refused_at_once(
    hardware: dict[str, Any], tensors: int, there: dict[str, float], short: str | None
) -> None:
    args = {"engine_args": {"tensor_parallel_size": tensors}}
    asked = service(model={**MODEL, **args}, hardware=hardware)
    if short is None:
        asked._refuse_too_large_a_replica(there)
        return
    with pytest.raises(EnvironmentFailedError) as refused:
        asked._refuse_too_large_a_replica(there)
    assert f"one replica needs {short}" in str(refused.value)


def test_a_process_that_ends_while_it_is_looked_at_hides_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Child:
        def __init__(self, pid: int) -> None:
            self.pid = pid

        def status(self) -> str:
            if self.pid == 1:
                raise psutil.NoSuchProcess(self.pid)
            return psutil.STATUS_RUNNING

    class Parent:
        def children(self, recursive: bool) -> list[Child]:
            return [Child(1), Child(2), Child(3)]

    monkeypatch.setattr(psutil, "Process", Parent)
    assert [process.pid for process in processes.others({3})] == [2]


@pytest.mark.parametrize(
    ("says", "shown"),
    [
        (
            "HAProxy crashed\n[ALERT] cannot bind socket for [0.0.0.0:9]\n[ALERT] Exiting.",
            "[ALERT] cannot bind socket for [0.0.0.0:9]",
        ),
        ("a frame\nanother\nRuntimeError: no reason\n", "RuntimeError: no reason"),
        ("", "ValueError"),
    ],
)
def test_the_error_of_a_failed_start_is_its_cause(
    monkeypatch: pytest.MonkeyPatch, says: str, shown: str
) -> None:
    def fail(_: Platform) -> None:
        raise ValueError(says)

    monkeypatch.setattr(preflight, "check", lambda _: None)
    monkeypatch.setattr(processes, "adopt_orphans", lambda: None)
    monkeypatch.setattr(environment, "prepare", lambda _: None)
    monkeypatch.setattr(Platform, "_connect", lambda _: None)
    monkeypatch.setattr(Platform, "_deploy", fail)
    with pytest.raises(EnvironmentFailedError) as failed:
        list(service().start())
    assert str(failed.value) == f"Ray Serve did not start: {shown}"


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/.ray/auth_token"),
        ray.exceptions.AuthenticationError("no token"),
        Exception("The current node timed out during startup"),
    ],
)
@pytest.mark.parametrize("server", [{}, {"ray_address": "10.0.0.1:6379"}])
def test_whatever_ray_says_at_its_start_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, server: dict[str, Any]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(EnvironmentFailedError) as refused:
        service(server=server)._connect()
    assert str(error) in str(refused.value)


def test_a_serve_without_applications_is_somebody_elses_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined = service(server={"ray_address": "10.0.0.1:6379"})
    monkeypatch.setattr(context, "_get_global_client", lambda **_: None)
    joined._refuse_foreign_serve()
    monkeypatch.setattr(context, "_get_global_client", lambda **_: object())
    with pytest.raises(EnvironmentFailedError, match="serve shutdown"):
        joined._refuse_foreign_serve()


def test_what_a_killed_service_left_on_a_cluster_is_ended_before_the_next_one_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []
    monkeypatch.setattr(serve, "start", lambda **_: called.append("start"))
    monkeypatch.setattr(serve, "RunTarget", lambda **_: None)
    monkeypatch.setattr(serve, "run_many", lambda *_, **__: called.append("run"))
    monkeypatch.setattr(platform, "build", lambda _: None)
    for name in ("end_log", "end_ledger"):
        monkeypatch.setattr(platform, name, lambda _, name=name: called.append(name))
    for name in ("tell_spec", "forget_start"):
        monkeypatch.setattr(cluster_kv, name, lambda _: None)
    monkeypatch.setattr(SharedTenants, "forget", lambda _: None)
    service(server={"ray_address": "10.0.0.1:6379"})._deploy()
    assert called == ["start", "end_log", "end_ledger", "run"]


def test_a_serve_that_does_not_end_keeps_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def fail() -> None:
        raise RuntimeError("the controller does not answer")

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(serve, "shutdown", fail)
    monkeypatch.setattr(platform, "end_ledger", lambda _: called.append("ledger"))
    monkeypatch.setattr(platform, "end_log", lambda _: called.append("log"))
    joined = service(server={"ray_address": "10.0.0.1:6379"})
    joined._connected = joined._serves = True
    joined.stop()
    assert called == ["ledger", "log"]
