"""What the log of a service's scaling keeps, and what it answers."""

from __future__ import annotations

from typing import Any

import pytest

from forebay.serving.engine import StartClock
from forebay.serving.scaling import scaling_log
from forebay.serving.scaling.scaling_log import ScalingLog, Sizes

COLD_S = 20.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(scaling_log, "time", clock)
    return clock


def tick(log: ScalingLog, clock: Clock, before: int, target: int, keep: bool = True) -> None:
    record: dict[str, Any] = {"at": clock.now, "before": before, "target": target}
    log.tick(record, keep, b"", Sizes(before, target, COLD_S))


def test_the_very_last_decision_is_told_whether_it_is_kept_or_not(clock: Clock) -> None:
    log = ScalingLog()
    assert log.last(5) == []
    tick(log, clock, 1, 2)
    clock.now += 1.0
    tick(log, clock, 2, 2, keep=False)
    assert [one["at"] for one in log.last(5)] == [1_000.0, 1_001.0]
    clock.now += 1.0
    tick(log, clock, 2, 2, keep=False)
    assert [one["at"] for one in log.last(5)] == [1_000.0, 1_002.0]


def test_a_replica_is_told_how_long_its_node_took(clock: Clock) -> None:
    log = ScalingLog()
    assert log.started(clock.now) is None  # nobody saw it being asked for
    tick(log, clock, 1, 3)
    assert log.started(clock.now + 40.0) == 40.0
    assert log.started(clock.now + 55.0) == 55.0
    assert log.started(clock.now + 60.0) is None


def test_a_replica_that_is_no_longer_wanted_takes_its_asking_along(clock: Clock) -> None:
    log = ScalingLog()
    tick(log, clock, 1, 3)
    tick(log, clock, 3, 1)
    clock.now += 100.0
    tick(log, clock, 1, 2)
    assert log.started(clock.now + 7.0) == 7.0


def test_who_knocks_while_a_replica_starts_waits_only_for_the_rest(clock: Clock) -> None:
    log = ScalingLog()
    whole = log.activate(COLD_S)
    assert whole >= COLD_S
    tick(log, clock, 0, 1)
    clock.now += 15.0
    assert log.activate(COLD_S) == pytest.approx(whole - 15.0)
    clock.now += 1_000.0  # long overdue
    assert 0 < log.activate(COLD_S) < COLD_S
    assert log.orders().activated_at == clock.now


def test_phases_of_a_start_follow_one_another() -> None:
    now = [10.0]
    start = StartClock(lambda: now[0], began=4.0)
    start.done("image")
    now[0] = 40.0
    start.done("weights")
    now[0] = 39.0  # the clock was set back
    start.done("warm_up")
    assert start.seconds == {"image": 6.0, "weights": 30.0, "warm_up": 0.0}
    start.seconds = {"node": 90.0, **start.seconds, "first_answer": 7.0}
    assert start.own_s == 36.0  # neither the node's nor the client's
