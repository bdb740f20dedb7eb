"""What the autoscaler does when it is told little, late, or nonsense: it keeps what there is."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.scaling import (
    Autoscaler,
    LimitConfig,
    ReplicaReading,
    ScalingConfig,
    ScalingRecord,
)
from forebay.policies.scaling.demand_meter import SILENT_S

COLD_S = 20.0
STABLE_S = 60.0
ONE_REPLICA = 10_000.0  # prompt tokens/s
LOWEST, HIGHEST = 1, 8


@dataclass
class Told:
    """A fleet as its autoscaler is told of it: replicas that count, some of them in silence."""

    scaler: Autoscaler = field(
        default_factory=lambda: Autoscaler(
            ScalingConfig(), LimitConfig(LOWEST, HIGHEST, stable_s=STABLE_S), cold_start_s=COLD_S
        )
    )
    target: int = 1
    ready: int = 1
    now: float = 0.0

    def __post_init__(self) -> None:
        self._counted: dict[str, ReplicaReading] = {}

    @property
    def names(self) -> list[str]:
        """Of the ready."""
        return [f"r{number}" for number in range(self.ready)]

    def second(self, work: float, silent: int = 0) -> ScalingRecord:
        """A second of so many replicas' work, spread evenly; the last `silent` do not report."""
        self.now += 1.0
        for name in self.names[: self.ready - silent]:
            known = self._counted.get(name, ReplicaReading(0, 0, 0, 0, 0, 0, ONE_REPLICA, 1e3, 1e6))
            self._counted[name] = replace(
                known,
                sequence=known.sequence + 1,
                offered_prefill=known.offered_prefill + work * ONE_REPLICA / self.ready,
            )
        told = {name: one for name, one in self._counted.items() if name in self.names}
        record = self.scaler.decide(told, self.names, self.target, self.now)
        self.target = record.target
        return record

    def seconds(self, count: int, work: float, **more: int) -> ScalingRecord:
        """So many of them; the last record."""
        for _ in range(count):
            record = self.second(work, **more)
        return record

    def start_all(self) -> None:
        """Whatever was asked for is ready."""
        self.ready = self.target


def grown(work: float = 2.9) -> Told:
    """A fleet of four that has long been at this work."""
    fleet = Told()
    fleet.seconds(40, work)
    fleet.start_all()
    fleet.seconds(20, work)
    assert fleet.target == 4
    return fleet


def test_a_fleet_that_says_nothing_keeps_its_size_and_says_so() -> None:
    fleet = grown()
    record = fleet.seconds(25 * int(STABLE_S), 0.0, silent=4)
    assert fleet.target == 4
    assert record.allowed.limits == ("blind",)
    assert "too few replicas report" in record.reason


def test_one_that_has_fallen_silent_is_not_taken_for_one_without_work() -> None:
    fleet = grown()
    fleet.seconds(int(SILENT_S) + 2, 0.0, silent=1)
    fleet.seconds(5 * int(STABLE_S), 0.0, silent=1)
    assert fleet.target == 4
    fleet.seconds(5 * int(STABLE_S), 0.0)  # it is heard again
    assert fleet.target == 1


@pytest.mark.parametrize("seconds", [4, 8, 60])
def test_what_was_counted_in_silence_is_not_taken_for_a_burst(seconds: int) -> None:
    fleet = grown()
    fleet.now += seconds - 1.0  # in which each second somebody looked, and nobody was ready
    for second in range(seconds):
        at = fleet.now - seconds + second + 1.0
        fleet.scaler.decide({}, [], fleet.target, at)
    record = fleet.second(2.9 * seconds)
    assert record.seen is not None
    assert record.seen.demand.prefill <= 3.1 * 2.9 * ONE_REPLICA
    assert fleet.seconds(40, 2.9).target == 4


def test_a_fleet_whose_replicas_are_all_gone_is_not_one_that_nobody_asks() -> None:
    fleet = grown()
    fleet.ready = 0
    fleet.seconds(10 * int(STABLE_S), 0.0)
    assert fleet.target == 4


@pytest.mark.parametrize("come", [0, 1])
def test_replicas_that_do_not_come_are_asked_for_once_and_told_overdue(come: int) -> None:
    fleet = Told()
    fleet.seconds(40, 2.9)
    asked_for = fleet.target
    fleet.ready += come
    record = fleet.seconds(int(10 * COLD_S), 2.9)
    assert fleet.target == asked_for == 4
    assert record.overdue == 3 - come
    assert "OVERDUE" in record.reason
    fleet.start_all()
    assert fleet.second(2.9).overdue == 0


def test_a_clock_that_stands_or_leaps_decides_nothing_by_itself() -> None:
    fleet = grown()
    fleet.now -= 1.0  # two looks at one moment
    assert fleet.second(2.9).target == 4
    fleet.now += 3_600.0  # nobody looked for an hour, and everybody went on counting
    assert fleet.second(2.9 * 3_600).target == 4


def test_what_another_remembered_is_gone_on_from() -> None:
    fleet = grown()
    memory = pickle.loads(pickle.dumps(fleet.scaler.memory))
    fleet.scaler = Told().scaler
    fleet.scaler.resume(memory)
    assert (fleet.scaler.memory.policy, fleet.scaler.memory.limits) == (
        memory.policy,
        memory.limits,
    )
    assert fleet.scaler.meter.cold_start == memory.meter.cold_start
    assert fleet.seconds(30, 2.9).target == 4
    record = fleet.second(2.9)
    assert record.seen is not None
    assert record.seen.demand.prefill == pytest.approx(2.9 * ONE_REPLICA)


moment = st.tuples(
    st.floats(0.0, 20.0),  # replicas' work
    st.integers(0, HIGHEST),  # how many are silent
    st.sampled_from(["none start", "one starts", "all start", "one dies"]),
)


@given(st.lists(st.tuples(st.integers(1, 40), moment), max_size=12))
def test_whatever_is_told_the_target_keeps_its_bounds_and_falls_only_on_what_was_seen(
    course: list[tuple[int, tuple[float, int, str]]],
) -> None:
    fleet = Told()
    for count, (work, silent, event) in course:
        if event == "one starts":
            fleet.ready = min(fleet.ready + 1, fleet.target)
        elif event == "all start":
            fleet.start_all()
        elif event == "one dies":
            fleet.ready = max(fleet.ready - 1, 0)
        fleet.ready = min(fleet.ready, max(fleet.target, 0))
        for _ in range(count):
            record = fleet.second(work, silent=min(silent, fleet.ready))
            fleet.ready = min(fleet.ready, fleet.target)
            assert LOWEST <= record.target <= HIGHEST
            assert record.plain()["reason"]
            if record.target < record.before:
                assert record.seen is not None
                assert record.seen.silent == 0
            if record.wanted is None:
                assert record.target == max(record.before, LOWEST)
