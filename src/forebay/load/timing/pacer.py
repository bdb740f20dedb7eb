"""Sends on an absolute schedule.

Each due time is an offset from one origin and the origin never moves: a late send does not push
the following ones back, it leaves them due, and they go out together. A schedule re-anchored
after a delay would ease the load exactly when the system under test is in trouble.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise


class Pacer:
    """Calls ``send(i)`` once for each due time ``i``, never early."""

    def __init__(
        self,
        due_s: Sequence[float],
        send: Callable[[int], None],
        clock: Callable[[], float],
        wake_at: Callable[[float | None], None],
    ) -> None:
        """Takes due times in seconds from the origin, ascending.

        Args:
            due_s: the schedule.
            send: sends what is due.
            clock: seconds.
            wake_at: has `pump` called at a time of the clock; not any more, for None.

        Raises:
            ValueError: when they are not ascending.
        """
        if any(later < earlier for earlier, later in pairwise(due_s)):
            raise ValueError("a schedule must be in ascending order of time")
        self._due_s = due_s
        self._send = send
        self._clock = clock
        self._wake_at = wake_at
        self._next = 0
        self._origin_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether everything was sent."""
        return self._next == len(self._due_s)

    @property
    def next_due_s(self) -> float:
        """When the next is due, on the clock; infinity when everything was sent."""
        return math.inf if self.finished else self._origin_s + self._due_s[self._next]

    def start(self, origin_s: float) -> None:
        """Begins, with ``origin_s`` on the pacer's clock as second 0 of the schedule."""
        self._origin_s = origin_s
        self.pump()

    def stop(self) -> None:
        """Sends nothing more."""
        self._wake_at(None)

    def pump(self) -> None:
        """Sends all that is due, then has itself called when the next is."""
        while not self.finished:
            due_s = self.next_due_s
            if due_s > self._clock():
                self._wake_at(due_s)
                return
            self._next += 1
            self._send(self._next - 1)
        self._wake_at(None)
