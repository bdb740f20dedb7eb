"""Requests made ready before they are due.

Making a body of 1,400 tokens takes 0.1 ms, which is nothing, but a schedule of a million such
bodies fills the memory. So a stock of them is kept ready, refilled while the client has nothing
to send.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_MOST_BYTES = 128 << 20
_SLICE_S = 0.001  # made at a time while running: the most that refilling delays a send
_PAUSE_S = 0.003

Item = TypeVar("Item")
CallLater = Callable[[float, Callable[[], None]], object]


class Prefetch(Generic[Item]):
    """Items of a schedule in order, each made from its place in it."""

    def __init__(
        self, count: int, make: Callable[[int], Item], size: Callable[[Item], int]
    ) -> None:
        """Takes how to make the item at a place, and how many bytes it holds."""
        self._count = count
        self._make = make
        self._size = size
        self._ready: deque[Item] = deque()
        self._bytes = 0
        self._next = 0

    def fill(self) -> None:
        """Makes all that fits, before the run."""
        while not self._full:
            self._make_one()

    def take(self) -> Item:
        """The next item; made now if none is ready."""
        if not self._ready:
            self._make_one()
        item = self._ready.popleft()
        self._bytes -= self._size(item)
        return item

    def refill(self, call_later: CallLater) -> None:
        """Goes on making items in short slices until the last is made."""
        if self._next == self._count:
            return
        until = time.perf_counter() + _SLICE_S
        while not self._full and time.perf_counter() < until:
            self._make_one()
        call_later(_PAUSE_S, lambda: self.refill(call_later))

    @property
    def _full(self) -> bool:
        return self._next == self._count or self._bytes >= _MOST_BYTES

    def _make_one(self) -> None:
        item = self._make(self._next)
        self._next += 1
        self._bytes += self._size(item)
        self._ready.append(item)
