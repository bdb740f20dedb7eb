"""The waiting queue: smallest priority value first, then the earliest arrival, then the id."""

from __future__ import annotations

from heapq import heapify, heappop, heappush, nsmallest

from forebay.engine_model.sequences import LiveSequence

_Entry = tuple[tuple[int, float, str], int, LiveSequence]


class WaitingQueue:
    """A heap of waiting sequences; a withdrawn one stays in it as a dead entry for a while."""

    def __init__(self) -> None:
        self._heap: list[_Entry] = []
        self._dead = 0
        self._pushed = 0  # parts equal ranks: an id can be withdrawn and come again

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def push(self, sequence: LiveSequence) -> None:
        """Queue a sequence whose state is `waiting`."""
        self._pushed += 1
        heappush(self._heap, (sequence.rank, self._pushed, sequence))

    def head(self) -> LiveSequence | None:
        """The next in line, left in the queue."""
        while self._heap and self._heap[0][2].state == "ended":
            heappop(self._heap)
            self._dead -= 1
        return self._heap[0][2] if self._heap else None

    def first(self, count: int) -> list[LiveSequence]:
        """The next so many in line, left in the queue."""
        alive = (entry for entry in self._heap if entry[2].state != "ended")
        return [sequence for _, _, sequence in nsmallest(count, alive)]

    def pop(self) -> LiveSequence:
        """Remove what `head` has just returned."""
        return heappop(self._heap)[2]

    def withdraw(self) -> None:
        """Account for one queued sequence whose state has become `ended`."""
        self._dead += 1
        if self._dead > len(self._heap) // 2:  # dead entries of low priority would never surface
            self._heap = [entry for entry in self._heap if entry[2].state != "ended"]
            heapify(self._heap)
            self._dead = 0

    def check_integrity(self, waiting: set[LiveSequence]) -> None:
        """Raise AssertionError unless exactly `waiting` are queued, each once."""
        queued = [sequence for _, _, sequence in self._heap if sequence.state != "ended"]
        assert len(queued) == len(self) == len(waiting), (len(queued), len(self), len(waiting))
        assert set(queued) == waiting

    def __repr__(self) -> str:
        return f"<WaitingQueue {len(self)} waiting>"
