"""Which process runs on which core, and which gives way, on the machine that this process runs on.

On few cores this decides more than any code: a model that shares its core with the front end
computes late, and housekeeping that runs at the cost of requests is felt in every percentile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

import psutil

_WORKER_TITLE = "VLLM::Worker"
_ENGINE_TITLE = "VLLM::EngineCore"
_HOUSEKEEPING_NICE = 5
_HOUSEKEEPING_TITLES = (
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::TelemetryAgent",
    "ray::ServeController",
    "ray::ProxyActor",
)
_RAYLET, _IDLE = "raylet", "ray::IDLE"


def yield_to_serving(family: Iterable[psutil.Process]) -> None:
    """Let the cluster's housekeeping give way to the processes that carry requests.

    Lowering a priority needs no privilege. Housekeeping then fills gaps instead of making them. The
    raylet and its idle workers keep theirs: replicas that start later have it from them. So does
    the actor that starts another HAProxy whenever replicas come or go.
    """
    for process in family:
        with contextlib.suppress(psutil.Error, OSError):
            if _is_housekeeping(process):
                for thread in process.threads():  # Linux keeps a priority for each thread
                    os.setpriority(os.PRIO_PROCESS, thread.id, _HOUSEKEEPING_NICE)


def _is_housekeeping(process: psutil.Process) -> bool:
    if _title(process).startswith(_HOUSEKEEPING_TITLES):
        return True
    return process.name().startswith("gcs_server")


def separate(family: Sequence[psutil.Process], cores_per_model: int) -> set[int]:
    """Give each model on CPU cores of its own, and the others what remains.

    vLLM binds worker processes by itself; a model inside an engine core is bound to nothing and
    gets `cores_per_model`. Where no core would remain for the others, nothing changes. The raylet
    and its idle workers stay on all: a model that starts later, for one that died, has only the
    cores that they have.

    Returns:
        The cores that the others were given; empty when nothing changed.
    """
    everything = sorted(os.sched_getaffinity(0))
    models = _bound_by_vllm(family) or _shares(family, everything, cores_per_model)
    rest = set(everything).difference(*models.values())
    if not models or not rest:
        return set()
    for process in family:
        if not _starts_replicas(process):
            _bind(process, models.get(process.pid, rest))
    return rest


def _starts_replicas(process: psutil.Process) -> bool:
    return _title(process).rpartition("/")[2] in (_RAYLET, _IDLE)


def _bound_by_vllm(family: Sequence[psutil.Process]) -> dict[int, set[int]]:
    """Worker processes by id, with the cores they are bound to."""
    bound: dict[int, set[int]] = {}
    for process in family:
        with contextlib.suppress(psutil.Error, OSError):
            if _title(process) == _WORKER_TITLE:
                bound[process.pid] = os.sched_getaffinity(process.pid)
    return bound


def _shares(
    family: Sequence[psutil.Process], everything: list[int], size: int
) -> dict[int, set[int]]:
    """Engine cores by id, each with the next `size` cores; none when they do not all get theirs."""
    engines = [process.pid for process in family if _title(process) == _ENGINE_TITLE]
    if len(engines) * size > len(everything):
        return {}
    return {pid: set(everything[i * size : (i + 1) * size]) for i, pid in enumerate(engines)}


def _bind(process: psutil.Process, cores: set[int]) -> None:
    with contextlib.suppress(psutil.Error, OSError):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, cores)


def _title(process: psutil.Process) -> str:
    """What the process calls itself; empty once it has ended."""
    with contextlib.suppress(psutil.Error):
        command = process.cmdline()
        return command[0] if command else process.name()
    return ""
