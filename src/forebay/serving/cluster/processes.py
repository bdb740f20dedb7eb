"""Every process that a service starts, found again and ended by id, whoever its parent is by then.

Ray and vLLM start processes that start processes; some outlive their parent when it is ended in
the middle of a start. This process makes itself the one that Linux hands such orphans to, so that
they all stay its descendants and none can be left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterator

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> bool:
    """Become the parent of orphaned descendants; False on systems that cannot."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


@contextlib.contextmanager
def deaf_to_hangups() -> Iterator[None]:
    """Have processes that are started meanwhile live on when the terminal is closed.

    Their service drains then, and they are what it does that with; it ends them itself. Outside the
    main thread, which alone may say how signals are taken, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which lasts through exec
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def descendants() -> list[psutil.Process]:
    """Processes below this one, without those that have ended."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # ended since it was found
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


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
    return [process for process in descendants() if process.pid not in keep]


def reap(keep: set[int]) -> None:
    """Collect ended children, so that none stays as a zombie."""
    for process in psutil.Process().children():
        if process.pid not in keep:
            with contextlib.suppress(psutil.Error):
                process.wait(timeout=0)
