"""Wakes an event loop at an exact time.

uvloop's own timers count whole milliseconds: rounded down they fire early and have to spin,
rounded up all that is due within one millisecond leaves together at its end. A client would then
send on a grid instead of by its law of gaps (a fifth of the gaps of 200 requests/s would be 0), and
a mock could not judge a client's milliseconds. A Linux timerfd is exact to about 0.1 ms, costs one
system call to set, and the loop waits for it as for any other file.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

_CLOCK_MONOTONIC = 1  # the clock of time.perf_counter() on Linux
_ABSOLUTE = 1
_NONBLOCKING, _CLOSE_ON_EXEC = os.O_NONBLOCK, os.O_CLOEXEC
_NEVER, _RANG = 0.0, -1.0

_libc = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """Calls `ring` once the time that was set last has come.

    Used inside one event loop; `close` it at the end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        """Sets nothing yet.

        Raises:
            OSError: the system gives no timer.
        """
        self._file = _libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCKING | _CLOSE_ON_EXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._loop = loop
        self._ring = ring
        self._at_s = _NEVER
        self._timespec = (ctypes.c_long * 4)()  # interval and time, each seconds and nanoseconds
        loop.add_reader(self._file, self._rang)

    def set(self, at_s: float | None) -> None:
        """Sets it to `at_s` on `time.perf_counter()`'s clock, at once if past; to never if None."""
        at_s = _NEVER if at_s is None else at_s
        if at_s == self._at_s:
            return
        self._at_s = at_s
        seconds = int(at_s)
        self._timespec[2] = seconds
        self._timespec[3] = int((at_s - seconds) * 1e9)
        _libc.timerfd_settime(self._file, _ABSOLUTE, self._timespec, None)

    def close(self) -> None:
        """Rings no more."""
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _rang(self) -> None:
        # Setting it again, which `ring` must do, also clears what the loop waits for.
        self._at_s = _RANG
        self._ring()
