from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.load.timing import Pacer


class World:
    """A clock and one alarm; a callback of the test may let time pass while it runs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.armed: float | None = None

    def clock(self) -> float:
        return self.now

    def run(self, pacer: Pacer) -> None:
        while self.armed is not None:
            self.now, self.armed = self.armed, None
            pacer.pump()

    def wake_at(self, at_s: float | None) -> None:
        assert at_s is None or at_s > self.now
        self.armed = at_s


class Log:
    """A pacer's sends with their times; the i-th takes ``takes_s(i)`` seconds."""

    def __init__(self, due_s: list[float], takes_s: Callable[[int], float] = lambda _: 0.0) -> None:
        self.world = World()
        self.sent: list[tuple[int, float]] = []
        self._takes_s = takes_s
        self.pacer = Pacer(due_s, self._send, self.world.clock, self.world.wake_at)

    def _send(self, index: int) -> None:
        self.sent.append((index, self.world.now - 100.0))
        self.world.now += self._takes_s(index)


@given(st.lists(st.floats(0, 10), max_size=50).map(sorted), st.floats(0, 0.5))
def test_sends_all_in_order_and_never_early(due_s: list[float], takes_s: float) -> None:
    log = Log(due_s, lambda _: takes_s)
    log.pacer.start(100.0)
    log.world.run(log.pacer)
    assert [index for index, _ in log.sent] == list(range(len(due_s)))
    assert all(at >= due - 1e-9 for (_, at), due in zip(log.sent, due_s, strict=True))
    assert log.pacer.finished


def test_each_is_sent_at_its_own_time() -> None:
    log = Log([0.0, 0.0004, 0.5, 1.2345])
    log.pacer.start(100.0)
    log.world.run(log.pacer)
    assert [round(at, 6) for _, at in log.sent] == [0.0, 0.0004, 0.5, 1.2345]


def test_it_says_when_the_next_is_due() -> None:
    log = Log([0.0, 2.0])
    log.pacer.start(100.0)
    assert log.pacer.next_due_s == 102.0
    log.world.run(log.pacer)
    assert log.pacer.next_due_s == float("inf")


def test_a_delay_is_caught_up_not_carried_on() -> None:
    log = Log([0.0, 0.1, 0.2, 0.3, 5.0], lambda index: 1.0 if index == 0 else 0.0)
    log.pacer.start(100.0)
    log.world.run(log.pacer)
    assert [round(at, 3) for _, at in log.sent] == [0.0, 1.0, 1.0, 1.0, 5.0]


def test_sends_nothing_after_stop() -> None:
    log = Log([0.0, 1.0, 2.0])
    log.pacer.start(100.0)
    log.pacer.stop()
    log.world.run(log.pacer)
    assert [index for index, _ in log.sent] == [0]
    assert not log.pacer.finished


def test_a_schedule_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        Log([1.0, 0.5])
