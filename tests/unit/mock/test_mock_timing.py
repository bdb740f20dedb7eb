"""The plan of every write, against an independent reckoning and under arbitrary histories."""

from __future__ import annotations

import heapq
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay.mock.timing import Freezes, Sending, Timetable

# Times are eighths of a second: exact in binary, and often equal, which is where order matters.
EIGHTH = 0.125
GAPS = st.integers(0, 24).map(lambda n: n * EIGHTH)
TIMES = st.integers(0, 400).map(lambda n: n * EIGHTH)
OFFSETS = st.lists(GAPS, min_size=1, max_size=6).map(lambda gaps: list(accumulate(gaps)))
WINDOWS = st.lists(st.tuples(TIMES, st.integers(1, 40).map(lambda n: n * EIGHTH)), max_size=4)


def moved(time_s: float, windows: list[tuple[float, float]]) -> float:
    """Naively: out of one window, perhaps into the next."""
    while ends := [a + length for a, length in windows if a <= time_s < a + length]:
        time_s = max(ends)
    return time_s


def reckoned(
    arrivals: list[tuple[float, list[float]]], slots: int, windows: list[tuple[float, float]]
) -> list[list[float]]:
    """When each write of each request is due: a FIFO queue before `slots` servers."""
    free = [0.0] * slots
    due = []
    for arrived, offsets in arrivals:
        start = max(arrived, heapq.heappop(free))
        due.append([moved(start + offset, windows) for offset in offsets])
        heapq.heappush(free, due[-1][-1])
    return due


def driven(
    arrivals: list[tuple[float, list[float]]],
    slots: int | None,
    windows: list[tuple[float, float]],
    polls: list[float],
) -> list[list[float]]:
    """What the timetable says when it is asked at `polls` and, at last, much later."""
    timetable: Timetable[Sending] = Timetable(slots)
    for start, length in windows:
        timetable.freezes.add(start, start + length)
    sendings = [Sending(offsets) for _, offsets in arrivals]
    due: dict[Sending, list[float]] = {sending: [] for sending in sendings}
    steps = [(time, 0, index) for index, (time, _) in enumerate(arrivals)]
    steps += [(time, 1, 0) for time in [*polls, 1e9]]
    last = 0.0
    for now, kind, index in sorted(steps):
        if kind == 0:
            assert timetable.offer(sendings[index], now)
        else:
            for sending, place, due_s in timetable.take(now):
                assert place == len(due[sending]), "a write was lost, doubled or out of order"
                assert last <= due_s <= now
                last = due_s
                due[sending].append(due_s)
        timetable.check_integrity()
    assert timetable.next_s() is None
    assert (timetable.running, timetable.queued) == (0, 0)
    return [due[sending] for sending in sendings]


ARRIVALS = st.lists(st.tuples(TIMES, OFFSETS), max_size=25).map(
    lambda drawn: sorted(drawn, key=lambda arrival: arrival[0])
)


@settings(deadline=None)
@given(
    arrivals=ARRIVALS,
    slots=st.integers(1, 4),
    windows=WINDOWS,
    polls=st.lists(TIMES, max_size=60),
)
def test_every_write_is_due_when_a_fifo_queue_says_whenever_one_looks(
    arrivals: list[tuple[float, list[float]]],
    slots: int,
    windows: list[tuple[float, float]],
    polls: list[float],
) -> None:
    assert driven(arrivals, slots, windows, polls) == reckoned(arrivals, slots, windows)


@settings(deadline=None)
@given(arrivals=ARRIVALS, windows=WINDOWS, polls=st.lists(TIMES, max_size=60))
def test_without_slots_nothing_waits_for_another(
    arrivals: list[tuple[float, list[float]]],
    windows: list[tuple[float, float]],
    polls: list[float],
) -> None:
    alone = [[moved(at + offset, windows) for offset in offsets] for at, offsets in arrivals]
    assert driven(arrivals, None, windows, polls) == alone


@settings(deadline=None)
@given(windows=WINDOWS, times=st.lists(TIMES, max_size=30))
def test_freezes_move_times_as_their_windows_say(
    windows: list[tuple[float, float]], times: list[float]
) -> None:
    freezes = Freezes()
    for start, length in windows:
        freezes.add(start, start + length)
    assert [freezes.moved(time) for time in times] == [moved(time, windows) for time in times]


def test_a_freeze_holds_back_what_is_due_in_it_and_no_more() -> None:
    timetable: Timetable[Sending] = Timetable()
    timetable.offer(Sending([1.0, 2.0, 3.0, 4.0, 5.0]), 0.0)
    timetable.freezes.add(2.0, 4.0)
    assert [due for *_, due in timetable.take(3.9)] == [1.0]
    assert timetable.next_s() == 4.0
    assert [due for *_, due in timetable.take(9.0)] == [4.0, 4.0, 4.0, 5.0]


def test_a_full_queue_refuses_and_forgets() -> None:
    timetable: Timetable[Sending] = Timetable(slots=2, max_queued=1)
    assert [timetable.offer(Sending([1.0]), 0.0) for _ in range(5)] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert (timetable.running, timetable.queued) == (2, 1)
    assert [due for *_, due in timetable.take(9.0)] == [1.0, 1.0, 2.0]


def test_no_queue_at_all_is_a_bound_too() -> None:
    timetable: Timetable[Sending] = Timetable(slots=1, max_queued=0)
    assert timetable.offer(Sending([1.0]), 0.0)
    assert not timetable.offer(Sending([1.0]), 0.5)


def test_who_leaves_frees_the_slot_at_once() -> None:
    timetable: Timetable[Sending] = Timetable(slots=1)
    first, second = Sending([100.0]), Sending([1.0])
    timetable.offer(first, 0.0)
    timetable.offer(second, 1.0)
    timetable.abandon(first, 3.0)
    assert [(sending, due) for sending, _, due in timetable.take(200.0)] == [(second, 4.0)]


def test_what_needs_no_slot_goes_past_the_queue() -> None:
    timetable: Timetable[Sending] = Timetable(slots=1)
    timetable.offer(Sending([10.0]), 0.0)
    timetable.offer(Sending([10.0]), 0.0)
    page = Sending([0.0])
    timetable.at_once(page, 1.0)
    assert [sending for sending, *_ in timetable.take(1.0)] == [page]
    assert (timetable.running, timetable.queued) == (1, 1)


def test_an_answer_tells_its_state() -> None:
    sending = Sending([1.0, 2.0])
    Timetable[Sending]().offer(sending, 0.0)
    assert repr(sending) == "<Sending running 0/2>"


class TimetableMachine(RuleBasedStateMachine):
    """Clients that come and go, freezes, and a process that looks when it likes."""

    @initialize(slots=st.integers(1, 3), most=st.integers(0, 3))
    def start(self, slots: int, most: int) -> None:
        self.slots, self.most = slots, most
        self.timetable: Timetable[Sending] = Timetable(slots, most)
        self.now = 0.0
        self.open: list[Sending] = []
        self.seen: dict[Sending, list[float]] = {}
        self.begun: list[float] = []

    @rule(seconds=GAPS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(offsets=OFFSETS)
    def arrive(self, offsets: list[float]) -> None:
        sending = Sending(offsets)
        full = self.timetable.running == self.slots and self.timetable.queued == self.most
        assert self.timetable.offer(sending, self.now) is not full
        if not full:
            self.open.append(sending)
            self.seen[sending] = []

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        sending = data.draw(st.sampled_from(self.open))
        self.open.remove(sending)
        self.timetable.abandon(sending, self.now)
        self.timetable.abandon(sending, self.now)
        assert sending.state == "ended"

    @rule(ahead=GAPS, seconds=st.integers(1, 16))
    def freeze(self, ahead: float, seconds: int) -> None:
        start = self.now + ahead
        self.timetable.freezes.add(start, start + seconds * EIGHTH)

    @rule()
    def look(self) -> None:
        for sending, place, due_s in self.timetable.take(self.now):
            assert sending in self.open, "a write for someone who has left"
            assert place == len(self.seen[sending])
            assert self.timetable.freezes.moved(due_s) == due_s, "a write inside a freeze"
            self.seen[sending].append(due_s)
            if place + 1 == len(sending.offsets):
                self.open.remove(sending)
        following = self.timetable.next_s()
        assert following is None or following > self.now

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "timetable"):
            self.timetable.check_integrity()
            assert self.timetable.running <= self.slots
            assert self.timetable.queued <= self.most
            assert self.timetable.running + self.timetable.queued == len(self.open)

    def teardown(self) -> None:
        if hasattr(self, "timetable"):
            self.now = 1e9
            self.look()
            assert not self.open, "something admitted was forgotten"


TestTimetable = TimetableMachine.TestCase
TestTimetable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(arrivals=ARRIVALS, slots=st.integers(1, 4))
def test_waiting_is_in_order_of_arrival(
    arrivals: list[tuple[float, list[float]]], slots: int
) -> None:
    timetable: Timetable[Sending] = Timetable(slots)
    sendings = [Sending(offsets) for _, offsets in arrivals]
    for (arrived, _), sending in zip(arrivals, sendings, strict=True):
        list(timetable.take(arrived))
        timetable.offer(sending, arrived)
    list(timetable.take(1e9))
    starts = [sending.started_s for sending in sendings]
    assert all(a is not None and b is not None and a <= b for a, b in pairwise(starts))


def test_integrity_is_really_checked() -> None:
    timetable: Timetable[Sending] = Timetable(slots=1)
    timetable.offer(Sending([1.0]), 0.0)
    timetable.running = 0
    with pytest.raises(AssertionError, match="slots differ"):
        timetable.check_integrity()
