"""Floors by the clock."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from forebay.policies.scaling import FloorWindow, Recurrence, floors

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_a_window_begins_early_by_the_cold_start_and_ends_on_time() -> None:
    window = FloorWindow(at("2026-12-01T08:30+00:00"), at("2026-12-01T12:00+00:00"), 24)
    for moment, expected in (
        ("2026-12-01T08:27:59+00:00", []),
        ("2026-12-01T08:28:00+00:00", [24]),
        ("2026-12-01T11:59:59+00:00", [24]),
        ("2026-12-01T12:00:00+00:00", []),
    ):
        assert floors([window], at(moment), lead_s=120.0) == expected


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-03-27T08:24:59+01:00", False),  # a Friday, winter time
        ("2026-03-27T08:25:00+01:00", True),
        ("2026-03-27T10:29:59+01:00", True),
        ("2026-03-27T10:30:00+01:00", False),
        ("2026-03-28T09:00:00+01:00", False),  # a Saturday
        ("2026-03-30T08:25:00+02:00", True),  # a Monday, summer time: still half past eight there
        ("2026-03-30T09:25:00+02:00", True),
        ("2026-03-30T10:30:00+02:00", False),
    ],
)
def test_a_recurrence_follows_its_zone_through_daylight_saving(moment: str, holds: bool) -> None:
    weekdays = Recurrence("30 8 * * 1-5", BERLIN, 2 * 3600.0, 6)
    assert weekdays.holds(at(moment), lead_s=300.0) == holds


def test_recurrences_that_overlap_hold_without_a_gap() -> None:
    hourly = Recurrence("0 * * * *", BERLIN, 7_200.0, 3)
    start = at("2026-12-01T00:00+01:00")
    assert all(hourly.holds(start + 97 * step, lead_s=0.0) for step in range(900))


@pytest.mark.parametrize(
    ("moment", "holds"),
    [
        ("2026-03-29T05:29:59+02:00", True),  # the night in which an hour is left out
        ("2026-03-29T05:30:00+02:00", False),
        ("2026-10-25T03:29:59+01:00", True),  # and the one that has one twice
        ("2026-10-25T03:30:00+01:00", False),
    ],
)
def test_a_recurrence_lasts_as_long_in_the_night_of_a_change(moment: str, holds: bool) -> None:
    nightly = Recurrence("30 0 * * *", BERLIN, seconds=4 * 3600.0, replicas=3)
    assert bool(floors([nightly], at(moment), lead_s=0.0)) == holds
