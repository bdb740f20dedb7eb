"""Moments as logs write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.record.moments import unix_seconds

NOON = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "written",
    [
        NOON,
        str(NOON),
        NOON * 1e3,
        int(NOON * 1e6),
        str(int(NOON * 1e9)),
        "2026-11-24T12:00:00.5Z",
        "2026-11-24 13:00:00.500+01:00",
        "2026-11-24T12:00:00.500000000",
        "24/Nov/2026:12:00:00.500",
        "[24/nov/2026:12:00:00.5 +0000]",
        "24/Nov/2026:17:30:00.500 +0530",
        "24/Nov/2026:04:00:00.500 -0800",
    ],
)
def test_one_moment_in_every_writing(written: object) -> None:
    assert unix_seconds(written) == pytest.approx(NOON, abs=1e-5)


@settings(deadline=None)
@given(
    st.datetimes(datetime(1973, 3, 4), datetime(2200, 1, 1)),
    st.integers(-12 * 60, 12 * 60),
)
def test_any_date_is_read_with_its_zone(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert unix_seconds(aware.isoformat()) == pytest.approx(aware.timestamp(), abs=1e-5)


@settings(deadline=None)
@given(st.integers(101, 4_000_000_000), st.sampled_from([1, 1_000, 1_000_000]))
def test_the_size_of_a_number_tells_its_unit(seconds: int, unit: int) -> None:
    if seconds > 100_000_000:  # before 1973 a ms is taken for a second
        assert unix_seconds(seconds * unit) == seconds


@pytest.mark.parametrize(
    "written", [None, True, "", "soon", "nan", float("inf"), "99/Foo/2026:00:00:00", [], 1e30,
                "24/Foo/2026:12:00:00", -7e10]
)  # fmt: skip
def test_what_is_no_moment_is_refused_without_repeating_it(written: object) -> None:
    with pytest.raises(ValueError, match="the time") as raised:
        unix_seconds(written)
    assert str(written) == "" or str(written) not in str(raised.value)
