"""When the mock writes what: slots, queue, freezes and one heap of everything due. Pure.

All times follow from arrivals by arithmetic, never from when the code got round to something: a
request that waits starts at the very time at which the last write of another was due, also where
the process noticed that a little later. A late process is late against its plan; it does not
bend the plan.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from typing import Generic, TypeVar


class Sending:
    """One answer: writes at fixed offsets from its start, in order, each exactly once."""

    __slots__ = ("arrived_s", "offsets", "started_s", "state", "written")

    def __init__(self, offsets: Sequence[float]) -> None:
        """Takes the writes' times in seconds from the start, ascending, at least one."""
        self.offsets = offsets
        self.arrived_s = 0.0
        self.started_s: float | None = None
        self.written = 0
        self.state = "new"  # then queued, running, and ended; or at once, and ended

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state} {self.written}/{len(self.offsets)}>"


class Freezes:
    """Periods in which nothing is written; what would be is moved to their end."""

    def __init__(self) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []  # of the period at the same place; periods never touch
        self.last_end_s = -math.inf

    def add(self, start_s: float, end_s: float) -> None:
        """One more period, from `start_s` up to `end_s`; those that it meets become one with it."""
        first = bisect_left(self._ends, start_s)
        last = bisect_right(self._starts, end_s)
        if first < last:
            start_s = min(start_s, self._starts[first])
            end_s = max(end_s, self._ends[last - 1])
        self._starts[first:last] = [start_s]
        self._ends[first:last] = [end_s]
        self.last_end_s = self._ends[-1]

    def moved(self, time_s: float) -> float:
        """`time_s`, or the end of the period that it falls into."""
        if time_s >= self.last_end_s:  # nearly always: this is asked for every token
            return time_s
        place = bisect_right(self._starts, time_s) - 1
        return max(time_s, self._ends[place]) if place >= 0 else time_s


S = TypeVar("S", bound=Sending)


class Timetable(Generic[S]):
    """Every answer on its way, in `slots` that run at once and a queue in order of arrival.

    Without `slots` everything runs at once. `max_queued` bounds the queue. A request holds its
    slot from its start to its last write.
    """

    def __init__(self, slots: int | None = None, max_queued: int | None = None) -> None:
        self.freezes = Freezes()
        self.running = 0
        self._slots = math.inf if slots is None else slots
        self._most = math.inf if max_queued is None else max_queued
        self._queue: OrderedDict[S, None] = OrderedDict()
        self._heap: list[tuple[float, int, S]] = []
        self._pushed = 0  # what is due at the same time goes out in the order of its coming

    @property
    def queued(self) -> int:
        """Answers that wait for a slot."""
        return len(self._queue)

    def offer(self, sending: S, now: float) -> bool:
        """Starts an answer to what arrived at `now`, or queues it; False when the queue is full."""
        if self.running < self._slots:
            sending.arrived_s = now
            self._start(sending, now)
            return True
        if len(self._queue) >= self._most:
            return False
        sending.arrived_s = now
        sending.state = "queued"
        self._queue[sending] = None
        return True

    def at_once(self, sending: S, now: float) -> None:
        """Starts an answer that needs no slot."""
        sending.arrived_s = sending.started_s = now
        sending.state = "at once"
        self._push(now + sending.offsets[0], sending)

    def abandon(self, sending: S, now: float) -> None:
        """Forgets an answer that nobody waits for any more; its slot is free from `now`."""
        state, sending.state = sending.state, "ended"
        if state == "queued":
            del self._queue[sending]
        elif state == "running":
            self._leave(now)

    def next_s(self) -> float | None:
        """When the next write is due; None when nothing is on its way."""
        while self._heap and self._heap[0][2].state == "ended":
            heappop(self._heap)
        return self.freezes.moved(self._heap[0][0]) if self._heap else None

    def take(self, now: float) -> Iterator[tuple[S, int, float]]:
        """Every write due by `now`: the answer, the write's place in it from 0, when it was due.

        In order of due time. What becomes due by `now` while they are taken is among them.
        """
        heap = self._heap
        while heap:
            time_s, _, sending = heap[0]
            due_s = self.freezes.moved(time_s)
            if due_s > now:
                return
            if sending.state == "ended":
                heappop(heap)
                continue
            place = sending.written
            sending.written = place + 1
            if sending.written < len(sending.offsets):
                assert sending.started_s is not None
                self._pushed += 1
                next_s = sending.started_s + sending.offsets[place + 1]
                heapreplace(heap, (next_s, self._pushed, sending))
            else:
                heappop(heap)
                self._finish(sending, due_s)
            yield sending, place, due_s

    def check_integrity(self) -> None:
        """Refuses a state that must not be.

        Raises:
            AssertionError: saying which.
        """
        held = [sending for *_, sending in self._heap if sending.state != "ended"]
        assert len(set(held)) == len(held), "an answer stands in the heap twice"
        running = sum(sending.state == "running" for sending in held)
        assert running == self.running <= self._slots, "running answers and slots differ"
        assert not self._queue or self.running == self._slots, "one waits beside a free slot"
        assert all(sending.state == "queued" for sending in self._queue), "the queue holds others"

    def _start(self, sending: S, at_s: float) -> None:
        self.running += 1
        sending.started_s = at_s
        sending.state = "running"
        self._push(at_s + sending.offsets[0], sending)

    def _finish(self, sending: S, at_s: float) -> None:
        state, sending.state = sending.state, "ended"
        if state == "running":
            self._leave(at_s)

    def _leave(self, at_s: float) -> None:
        """A slot is free from `at_s`: the head of the queue takes it, if it had come by then."""
        self.running -= 1
        if self._queue and self.running < self._slots:
            head, _ = self._queue.popitem(last=False)
            self._start(head, max(at_s, head.arrived_s))

    def _push(self, time_s: float, sending: S) -> None:
        self._pushed += 1
        heappush(self._heap, (time_s, self._pushed, sending))
