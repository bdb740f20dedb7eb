"""Another policy on the inputs that a fleet recorded."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from recorded_scaling import CONFIG, LIMITS, decisions

from forebay.policies.scaling import LimitConfig
from forebay.simulate import RecordedScaling, read_record, replay, totals


@pytest.fixture(scope="module")
def records() -> list[RecordedScaling]:
    return [read_record(one) for one in decisions()]


def test_the_same_policy_decides_the_same(records: list[RecordedScaling]) -> None:
    looks = replay(records, CONFIG, LIMITS)
    assert {look.now[0] for look in looks} >= {1, 4, 6}
    assert [look.now[0::2] for look in looks] == [look.then[0::2] for look in looks]
    # A cold start is known to a second.
    differ = sum(look.now[1] != look.then[1] for look in looks)
    assert differ <= sum(look.now[1] != after.now[1] for look, after in pairwise(looks))


def test_how_large_the_recorded_fleet_became_makes_no_difference(
    records: list[RecordedScaling],
) -> None:
    stuck = [
        replace(one, target=1, ready=1, seen=one.seen and replace(one.seen, target=1, ready=1))
        for one in records
    ]
    found = [
        [(look.now, look.now_why) for look in replay(some, CONFIG, LIMITS)]
        for some in (records, stuck)
    ]
    assert found[0] == found[1]


def test_more_headroom_asks_for_more(records: list[RecordedScaling]) -> None:
    looks = replay(records, replace(CONFIG, headroom=0.5), LimitConfig(1, 20, stable_s=60.0))
    then, now = totals(looks)
    assert now.replica_hours > 1.3 * then.replica_hours
    assert now.most > then.most == 6
    assert now.short_s < then.short_s


def test_a_lower_max_says_how_many_are_missing(records: list[RecordedScaling]) -> None:
    looks = replay(records, CONFIG, replace(LIMITS, max=2))
    then, now = totals(looks)
    assert now.most == 2
    assert now.missing > then.missing
    assert now.short_s > then.short_s


def test_a_longer_window_keeps_what_the_swell_asked_for(records: list[RecordedScaling]) -> None:
    kept = replay(records, CONFIG, replace(LIMITS, stable_s=600.0))
    assert kept[-1].then[0] == 1
    assert kept[-1].now[0] == 6


def test_a_scheduled_floor_is_ready_a_cold_start_later(records: list[RecordedScaling]) -> None:
    start = records[0].at
    looks = replay(records, CONFIG, LIMITS, lambda at, _: [5] if at >= start + 10 else [])
    targets = {look.at - start: look.now for look in looks}
    assert (targets[9.0][0], targets[10.0][0]) == (1, 5)
    assert (targets[29.0][1], targets[30.0][1]) == (1, 5)


def test_a_recording_with_gaps_decides_much_the_same(records: list[RecordedScaling]) -> None:
    sparse = [one for k, one in enumerate(records) if k % 5 == 0]
    most = [max(look.now[0] for look in replay(some, CONFIG, LIMITS)) for some in (records, sparse)]
    assert most[0] == most[1]


def test_a_fleet_that_could_not_be_seen_is_held(records: list[RecordedScaling]) -> None:
    blind = [replace(one, seen=None) for one in records]
    looks = replay(blind, CONFIG, LIMITS)
    assert {look.now[0] for look in looks} == {1}
    assert all("blind" in look.now_why for look in looks)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"seen": {"demand": 3}}, "not a scaling decision"),
        ({"cold_start": {}}, "no 'mean_s'"),
        ({"allowed": None}, "not a scaling decision"),
    ],
)
def test_what_is_no_decision_is_refused(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_record({**decisions()[0], **broken})


def test_a_floor_begins_as_early_where_nothing_was_seen_as_where_something_was() -> None:
    plain = {**decisions()[0], "seen": None}
    plain["cold_start"] = {"mean_s": 60.0, "deviation_s": 50.0, "longest_s": 180.0}
    asked: list[float] = []

    def floors(_: float, lead_s: float) -> list[int]:
        asked.append(lead_s)
        return []

    replay([read_record(plain)], CONFIG, LIMITS, floors)
    assert asked == [180.0]
