"""Which cores processes get, on real processes that only sleep."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from forebay.serving.cluster import cores

SLEEP = Path("/bin/sleep")
CORES = sorted(os.sched_getaffinity(0))
needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="nothing to separate on one core")

Start = Callable[..., psutil.Process]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a sleeping process that calls itself by a given name."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(title: str, executable: Path = SLEEP) -> psutil.Process:
        started.append(subprocess.Popen([title, "60"], executable=executable))
        process = psutil.Process(started[-1].pid)
        while process.cmdline()[:1] != [title]:  # a moment into exec it has no name yet
            pass
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


@needs_two_cores
def test_a_model_inside_an_engine_core_gets_cores_of_its_own(start: Start) -> None:
    engine, replica = start("VLLM::EngineCore"), start("ray::ServeReplica:demo")
    rest = cores.separate([replica, engine], cores_per_model=1)
    assert engine.cpu_affinity() == CORES[:1]
    assert replica.cpu_affinity() == CORES[1:] == sorted(rest)


@needs_two_cores
def test_cores_that_vllm_bound_a_worker_to_are_kept_free_of_its_engine_core(start: Start) -> None:
    worker, engine = start("VLLM::Worker"), start("VLLM::EngineCore")
    worker.cpu_affinity(CORES[-1:])
    cores.separate([worker, engine], cores_per_model=1)
    assert worker.cpu_affinity() == CORES[-1:]
    assert engine.cpu_affinity() == CORES[:-1]


def test_nothing_changes_where_the_models_would_take_every_core(start: Start) -> None:
    engine, replica = start("VLLM::EngineCore"), start("ray::ServeReplica:demo")
    assert cores.separate([engine, replica], cores_per_model=len(CORES)) == set()
    assert engine.cpu_affinity() == replica.cpu_affinity() == CORES


def test_nothing_changes_where_the_models_do_not_all_get_theirs(start: Start) -> None:
    engines = [start("VLLM::EngineCore") for _ in range(len(CORES) + 1)]
    assert cores.separate(engines, cores_per_model=1) == set()
    assert all(engine.cpu_affinity() == CORES for engine in engines)


def test_housekeeping_gives_way_and_replicas_do_not(start: Start) -> None:
    agent, replica = start("ray::DashboardAgent"), start("ray::ServeReplica:demo")
    before = replica.nice()
    cores.yield_to_serving([agent, replica])
    assert agent.nice() > before == replica.nice()


def test_a_replica_that_starts_later_does_not_give_way(start: Start, tmp_path: Path) -> None:
    raylet = start("raylet", shutil.copy(SLEEP, tmp_path / "raylet"))  # it starts the workers
    idle = start("ray::IDLE")  # which become replicas
    before = idle.nice()
    cores.yield_to_serving([raylet, idle])
    assert raylet.nice() == idle.nice() == before


@needs_two_cores
def test_a_model_that_starts_later_is_not_kept_from_any_core(start: Start, tmp_path: Path) -> None:
    raylet = start("raylet", shutil.copy(SLEEP, tmp_path / "raylet"))
    idle, engine = start("ray::IDLE"), start("VLLM::EngineCore")
    assert cores.separate([engine, raylet, idle], cores_per_model=1)
    assert raylet.cpu_affinity() == idle.cpu_affinity() == CORES


def test_the_haproxy_of_a_fleet_that_has_changed_does_not_give_way(start: Start) -> None:
    manager = start("ray::HAProxyManager")  # starts another at each change
    before = manager.nice()
    cores.yield_to_serving([manager])
    assert manager.nice() == before


def test_a_process_that_has_ended_is_passed_over(start: Start) -> None:
    gone = start("VLLM::EngineCore")
    gone.kill()
    psutil.wait_procs([gone], timeout=5)
    cores.yield_to_serving([gone])
    assert cores.separate([gone], cores_per_model=1) in (set(), set(CORES))
