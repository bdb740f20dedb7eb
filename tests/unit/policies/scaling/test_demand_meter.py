"""Counting a fleet's demand from its replicas' reports."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.scaling import Capacity, ColdStart, ReplicaReading
from forebay.policies.scaling.demand_meter import SILENT_S, DemandMeter, StartTimes

NEW = ReplicaReading(
    sequence=1,
    offered_prefill=0,
    offered_decode=0,
    offered_kv_s=0,
    queued_prefill=0,
    queued_decode=0,
    prefill_rate=10_000,
    decode_rate=1_000,
    kv_tokens=100_000,
)


def later(reading: ReplicaReading, prefill: float) -> ReplicaReading:
    return replace(
        reading,
        sequence=reading.sequence + 1,
        offered_prefill=reading.offered_prefill + prefill,
    )


def test_rates_are_differences_over_the_time_between() -> None:
    meter = DemandMeter()
    assert meter.read({"a": later(NEW, 9_999)}, ["a"], 1, 10.0) is None  # a mark to count from
    seen = meter.read({"a": later(later(NEW, 9_999), 500)}, ["a"], 1, 12.0)
    assert seen is not None
    assert (seen.demand.prefill, seen.seconds) == (250.0, 2.0)
    assert seen.capacity == Capacity(10_000, 1_000, 100_000, "learned")


def test_a_replica_that_appears_has_counted_from_nothing() -> None:
    meter = DemandMeter()
    meter.read({"a": NEW}, ["a"], 2, 0.0)
    seen = meter.read({"a": NEW, "b": later(NEW, 300)}, ["a", "b"], 2, 1.0)
    assert seen is not None
    assert seen.demand.prefill == 300.0


def test_a_replica_that_counts_less_has_started_anew() -> None:
    meter = DemandMeter()
    meter.read({"a": replace(NEW, sequence=50, offered_prefill=5_000)}, ["a"], 1, 0.0)
    seen = meter.read({"a": later(NEW, 70)}, ["a"], 1, 1.0)
    assert seen is not None
    assert seen.demand.prefill == 70.0


def test_a_fleet_of_which_most_are_silent_is_not_seen() -> None:
    meter = DemandMeter()
    readings = dict.fromkeys("abc", NEW)
    meter.read(readings, readings, 3, 0.0)
    late = SILENT_S + 1
    one = {**readings, "a": later(NEW, 1)}
    assert meter.read(one, one, 3, late) is None
    two = {**one, "b": later(NEW, 1)}
    assert meter.read(two, two, 3, late + 1) is not None


def test_declared_capacity_is_not_overruled() -> None:
    declared = Capacity(5_000, 500, 50_000, "declared")
    meter = DemandMeter(declared)
    meter.read({"a": NEW}, ["a"], 1, 0.0)
    seen = meter.read({"a": later(NEW, 1)}, ["a"], 1, 1.0)
    assert seen is not None
    assert seen.capacity == declared


def test_what_the_caches_hold_is_told_by_replicas_beside_declared_rates() -> None:
    meter = DemandMeter(Capacity(5_000, 500, inf, "declared"))
    assert meter.read({}, [], 1, 0.0) is None
    meter.read({"a": NEW}, ["a"], 1, 1.0)
    seen = meter.read({"a": later(NEW, 1)}, ["a"], 1, 2.0)
    assert seen is not None
    assert seen.capacity == Capacity(5_000, 500, NEW.kv_tokens, "declared")


def test_cold_starts_are_from_asking_to_serving_with_their_spread() -> None:
    meter = DemandMeter(cold_start_s=45.0)
    assert meter.cold_start.mean_s == 45.0
    for now, ready, target in (
        (0.0, 1, 2),  # one was on its way before anybody looked
        (5.0, 2, 2),
        (10.0, 2, 4),
        (20.0, 2, 5),
        (30.0, 3, 5),  # asked for at 10
        (50.0, 5, 5),  # asked for at 10 and 20
    ):
        names = [f"r{i}" for i in range(ready)]
        meter.read(dict.fromkeys(names, NEW), names, target, now)
    assert meter.cold_start.mean_s == pytest.approx((20 + 40 + 30) / 3)
    assert meter.cold_start.cautious_s > meter.cold_start.mean_s


def test_replicas_that_all_come_back_have_neither_started_nor_been_asked_anew() -> None:
    """As Serve's controller sees them when it has started anew."""
    meter = DemandMeter(cold_start_s=45.0)
    busy = {name: replace(NEW, sequence=500, offered_prefill=1e6) for name in "abc"}
    meter.read(busy, busy, 3, 0.0)
    meter.read({}, [], 3, 1.0)
    busy = {name: later(one, 100) for name, one in busy.items()}
    seen = meter.read(busy, busy, 3, 2.0)
    assert seen is not None
    assert seen.demand.prefill * seen.seconds == pytest.approx(300)
    assert meter.cold_start.mean_s == 45.0


def test_replicas_that_a_new_meter_first_sees_late_are_only_a_mark_to_count_from() -> None:
    meter = DemandMeter()
    meter.read({}, [], 3, 0.0)
    busy = {name: replace(NEW, sequence=500, offered_prefill=1e6) for name in "abc"}
    seen = meter.read(busy, busy, 3, 4.0)
    assert seen is not None
    assert seen.demand.prefill == 0.0


def test_replicas_that_are_no_longer_wanted_leave_no_start_behind() -> None:
    times = StartTimes()
    for now, ready, target in ((0.0, 1, 1), (1.0, 1, 4), (2.0, 1, 1), (100.0, 1, 2), (130.0, 2, 2)):
        times.look([f"r{number}" for number in range(ready)], target, now)
    assert list(times.seconds) == [30.0]


def test_a_start_that_nobody_saw_begin_is_what_the_replica_tells_of_it() -> None:
    """The first of a service is asked for before anybody looks; its first report comes later."""
    meter = DemandMeter(cold_start_s=60.0)
    meter.read({}, [], 1, 0.0)
    meter.read({}, ["a"], 1, 290.0)
    assert meter.cold_start.most_s == 60.0
    own = replace(NEW, start_s=300.0)
    for second in range(3):
        meter.read({"a": replace(own, sequence=second)}, ["a"], 1, 291.0 + second)
        assert meter.cold_start == ColdStart(300.0, 0.0, 300.0)


def test_a_start_that_was_seen_is_counted_once_and_with_its_node() -> None:
    times = StartTimes()
    told = {"a": 30.0, "b": 30.0}
    times.look(["a"], 1, 0.0, told)  # ready before anybody looked
    times.look(["a"], 2, 10.0, told)
    times.look(["a", "b"], 2, 100.0, told)
    times.look(["a", "b"], 2, 101.0, told)
    assert list(times.seconds) == [30.0, 90.0]


class Pool:
    """Of one replica more for each start, in time."""

    def __init__(self, times: StartTimes, own_s: float) -> None:
        self.times, self.now = times, 0.0
        self._told = {"r0": own_s}
        times.look([], 1, self.now)
        self.pass_time(1.0)
        times.look(["r0"], 1, self.now, self._told)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    def start(self, *seconds: float) -> None:
        """So many, asked for at once, which take that long: ascending."""
        ready, began = len(self._told), self.now
        self._look(ready + len(seconds))
        for one in seconds:
            self.now = began + one
            self._told[f"r{len(self._told)}"] = 0.0
            self._look(ready + len(seconds))

    def _look(self, target: int) -> None:
        self.times.look(list(self._told), target, self.now, self._told)


def test_replicas_that_were_stuck_count_for_what_made_them_overdue() -> None:
    pool = Pool(StartTimes(60.0), own_s=100.0)
    pool.start(7_200.0, 7_210.0, 7_220.0)  # for want of the same GPUs
    assert list(pool.times.seconds) == [100.0, 300.0, 300.0, 300.0]
    pool.start(100.0)
    assert pool.times.cold_start.most_s == 300.0


def test_a_pool_that_has_become_slower_is_known_after_a_few_starts() -> None:
    pool = Pool(StartTimes(60.0), own_s=100.0)
    for _ in range(4):
        pool.start(1_500.0)
    assert list(pool.times.seconds) == [100.0, 300.0, 900.0, 1_500.0, 1_500.0]


def test_the_first_start_of_all_counts_in_full_where_it_is_the_replicas_own() -> None:
    assert list(Pool(StartTimes(60.0), own_s=600.0).times.seconds) == [600.0]
    # One with its wait for a node counts for three times what the file says at most.
    times = StartTimes(60.0)
    times.look([], 0, 0.0)
    times.look([], 1, 1.0)
    times.look(["a"], 1, 7_201.0)
    assert list(times.seconds) == [180.0]


def test_replicas_asked_for_before_a_start_was_known_count_in_full_by_the_first() -> None:
    """A floor asks for more while the first of a service still starts."""
    times, told = StartTimes(60.0), {"a": 400.0}
    times.look([], 1, 0.0)
    times.look([], 2, 1.0)
    times.look(["a"], 2, 390.0)
    times.look(["a"], 2, 391.0, told)
    times.look(["a", "b"], 2, 401.0, told)
    assert list(times.seconds) == [400.0, 400.0]


def test_a_file_that_says_a_start_takes_long_is_believed() -> None:
    times, told = StartTimes(600.0), {"a": 5.0}
    times.look(["a"], 1, 0.0, told)
    times.look(["a"], 2, 1.0, told)
    times.look(["a", "b"], 2, 901.0, told)
    assert list(times.seconds) == [5.0, 900.0]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(0, 1_000), st.floats(0.1, 5.0)), max_size=40
    )
)
def test_no_token_is_lost_or_counted_twice(reports: list[tuple[str, int, float]]) -> None:
    meter, now = DemandMeter(), 0.0
    meter.read({}, [], 0, now)
    readings: dict[str, ReplicaReading] = {}
    offered, metered = 0, 0.0
    for name, tokens, seconds in reports:
        now += seconds
        readings[name] = later(readings.get(name, NEW), tokens)
        offered += tokens
        everybody = {n: later(r, 0) if n != name else r for n, r in readings.items()}
        readings = everybody  # all report; only one has new demand
        seen = meter.read(readings, readings, len(readings), now)
        assert seen is not None
        metered += seen.demand.prefill * seen.seconds
    assert metered == pytest.approx(offered)


def asked(
    reading: ReplicaReading, sequences: float, tokens_each: float, reports: int = 1
) -> ReplicaReading:
    """A later report, after `sequences` answers more, each expected to have so many tokens."""
    return replace(
        reading,
        sequence=reading.sequence + reports,
        offered_sequences=reading.offered_sequences + sequences,
        offered_decode=reading.offered_decode + sequences * tokens_each,
        offered_kv_s=reading.offered_kv_s + sequences * tokens_each * 10.0,
    )


def test_what_a_new_replica_guesses_of_answers_is_not_demand() -> None:
    meter = DemandMeter()
    old = replace(NEW, sequence=500)
    meter.read({"old": old}, ["old"], 2, 0.0)
    old = asked(old, 10, 200)
    meter.read({"old": old}, ["old"], 2, 1.0)
    readings = {"old": asked(old, 5, 200), "new": asked(NEW, 5, 1_000)}
    seen = meter.read(readings, ["old", "new"], 2, 2.0)
    assert seen is not None
    assert seen.demand.decode == pytest.approx(10 * 200)
    assert seen.demand.kv == pytest.approx(10 * 2_000)


def test_a_fleet_of_new_replicas_is_taken_at_its_word() -> None:
    meter = DemandMeter()
    meter.read({"a": NEW}, ["a"], 1, 0.0)
    seen = meter.read({"a": asked(NEW, 5, 1_000)}, ["a"], 1, 1.0)
    assert seen is not None
    assert seen.demand.decode == 5_000.0


def test_a_replica_that_has_learned_is_believed() -> None:
    meter = DemandMeter()
    old = {name: replace(NEW, sequence=500) for name in "ab"}
    meter.read(old, list(old), 2, 0.0)
    seen = meter.read({"a": asked(old["a"], 5, 200), "b": asked(old["b"], 5, 900)}, "ab", 2, 1.0)
    assert seen is not None
    assert seen.demand.decode == 5_500.0


def test_replicas_that_were_on_their_way_at_the_first_look_are_overdue_like_others() -> None:
    times = StartTimes(20.0)
    times.look([], 2, 0.0)
    times.look(["a"], 2, 10.0, {"a": 10.0})
    times.look(["a"], 2, 1_000.0)
    assert times.waiting_since(1_000.0 - 3 * times.cold_start.most_s) == 1
    times.look(["a", "b"], 2, 1_001.0)
    assert times.waiting_since(1_001.0) == 0
    assert list(times.seconds) == [10.0], "how long that one took is not known"
