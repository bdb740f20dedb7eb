"""Every process that a service starts, found again and ended by id, whoever its parent is by then.

Ray and vLLM start processes that start processes; some outlive their parent when it is ended in
the middle of a start. This process makes itself the one that Linux hands such orphans to, so that
they all stay its descendants and none can be left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterable

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_WORKER_TITLE = "VLLM::Worker"
_HOUSEKEEPING_NICE = 5
_HOUSEKEEPING_TITLES = (
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::TelemetryAgent",
    "ray::ServeController",
    "ray::ProxyActor",
    "ray::HAProxyManager",
    "ray::IDLE",
)


def adopt_orphans() -> bool:
    """Become the parent of orphaned descendants; False on systems that cannot."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def descendants() -> list[psutil.Process]:
    """Processes below this one, without those that have ended."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE
    ]


def end_descendants(keep: set[int], patience_s: float) -> list[str]:
    """End every descendant that is not in `keep`: ask, wait `patience_s`, then kill.

    Returns:
        Names of processes that had to be killed.
    """
    killed: list[str] = []
    for process in others(keep):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    give_up = time.monotonic() + patience_s
    while others(keep) and time.monotonic() < give_up:
        time.sleep(0.05)
    while remaining := others(keep):  # a killed parent may hand over children not seen before
        for process in remaining:
            with contextlib.suppress(psutil.NoSuchProcess):
                killed.append(process.name())
                process.kill()
        psutil.wait_procs(remaining, timeout=5)
    reap(keep)
    return killed


def others(keep: set[int]) -> list[psutil.Process]:
    """Descendants that are not in `keep`."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process for process in descendants() if process.pid not in keep]
    return []


def reap(keep: set[int]) -> None:
    """Collect ended children, so that none stays as a zombie."""
    for process in psutil.Process().children():
        if process.pid not in keep:
            with contextlib.suppress(psutil.Error):
                process.wait(timeout=0)


def yield_to_serving(keep: set[int]) -> None:
    """Let the cluster's housekeeping give way to the processes that carry requests.

    Lowering a priority needs no privilege. On few cores it is felt in the requests per second:
    housekeeping then fills gaps instead of making them.
    """
    for process in others(keep):
        with contextlib.suppress(psutil.Error, OSError):
            if _is_housekeeping(process):
                for thread in process.threads():  # Linux keeps a priority for each thread
                    os.setpriority(os.PRIO_PROCESS, thread.id, _HOUSEKEEPING_NICE)


def _is_housekeeping(process: psutil.Process) -> bool:
    command = process.cmdline()
    title = command[0] if command else process.name()
    if title.startswith(_HOUSEKEEPING_TITLES):
        return True
    return process.name().startswith(("gcs_server", "raylet"))


def keep_off_model_cores(family: Iterable[psutil.Process]) -> set[int]:
    """Keep everything but vLLM's workers off the cores that vLLM bound its workers to.

    On CPU vLLM binds each worker to cores of its own and leaves some to the rest; the rest does
    not know. Where every core belongs to a worker, or none does, nothing changes.

    Returns:
        The cores that the others were given; empty when nothing changed.
    """
    everything = os.sched_getaffinity(0)
    rest_of_family: list[psutil.Process] = []
    taken: set[int] = set()
    for process in family:
        with contextlib.suppress(psutil.Error, OSError):
            if process.cmdline()[:1] == [_WORKER_TITLE]:
                taken |= os.sched_getaffinity(process.pid)
            else:
                rest_of_family.append(process)
    rest = everything - taken
    if not taken or not rest:
        return set()
    for process in rest_of_family:
        with contextlib.suppress(psutil.Error, OSError):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, rest)
    return rest
