"""Sends on an absolute schedule.

Each due time is an offset from one origin and the origin never moves: a late send does not push
the following ones back, it leaves them due, and they go out together. A schedule re-anchored
after a delay would ease the load exactly when the system under test is in trouble.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

# uvloop's timers count whole milliseconds and turn less than half of one into "at once", which
# would spin a real-time process until the send is due.
_TIMER_STEP_S = 0.001


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> object:
        """Forgets the call."""


class Pacer:
    """Calls ``send(i)`` once for each due time ``i``, never early."""

    def __init__(
        self,
        due_s: Sequence[float],
        send: Callable[[int], None],
        clock: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Timer],
    ) -> None:
        """Takes due times in seconds from the origin, ascending.

        Raises:
            ValueError: when they are not ascending.
        """
        if any(later < earlier for earlier, later in pairwise(due_s)):
            raise ValueError("a schedule must be in ascending order of time")
        self._due_s = due_s
        self._send = send
        self._clock = clock
        self._call_later = call_later
        self._next = 0
        self._origin_s = 0.0
        self._timer: Timer | None = None

    @property
    def finished(self) -> bool:
        """Whether everything was sent."""
        return self._next == len(self._due_s)

    def start(self, origin_s: float) -> None:
        """Begins, with ``origin_s`` on the pacer's clock as second 0 of the schedule."""
        self._origin_s = origin_s
        self._pump()

    def stop(self) -> None:
        """Sends nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pump(self) -> None:
        """Sends all that is due, then sleeps until the next."""
        self._timer = None
        while self._next < len(self._due_s):
            wait = self._due_s[self._next] - (self._clock() - self._origin_s)
            if wait > 0:
                steps = math.ceil(wait / _TIMER_STEP_S)
                self._timer = self._call_later(steps * _TIMER_STEP_S, self._pump)
                return
            self._next += 1
            self._send(self._next - 1)
