"""Moments as logs write them: Unix times in any unit, ISO 8601, the dates of web servers."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone

# A Unix time in seconds stays below 1e11 until the year 5138; in ms it passed that in 1973.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEB = re.compile(  # 24/Nov/2026:21:48:12.123 +0000; HAProxy has the milliseconds, nginx the zone
    r"\[?(\d{1,2})/([A-Za-z]{3})/(\d{4}):(\d{2}):(\d{2}):(\d{2})(\.\d+)?"
    r"(?: ?([+-])(\d{2})(\d{2}))?\]?"
)


def unix_seconds(value: object) -> float:
    """Seconds since 1970 of a number (s, ms, us or ns, told by its size) or a date in text.

    A date without a zone is taken as UTC: in a recording only differences count.

    Raises:
        ValueError: it is no moment. The message does not repeat it.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _scaled(float(value))
    if not isinstance(value, str):
        raise ValueError("the time is neither a number nor a date")
    text = value.strip()
    try:
        number = float(text)
    except ValueError:
        return _date(text)
    return _scaled(number)


def _scaled(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError("the time is no finite number")
    seconds = next(number / unit for below, unit in _UNITS if abs(number) < below)
    if not _YEAR_1 <= seconds < _YEAR_10000:
        raise ValueError("the time lies outside the years 1 to 9999")
    return seconds


def _date(text: str) -> float:
    web = _WEB.fullmatch(text)
    try:
        moment = _web_date(web) if web else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError("the time is neither a number nor a date") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()


def _web_date(match: re.Match[str]) -> datetime:
    """By hand: `strptime` knows months in the machine's language only."""
    day, month, year, hour, minute, second, fraction, sign, ahead, ahead_min = match.groups()
    offset = timedelta(hours=int(ahead or 0), minutes=int(ahead_min or 0))
    zone = timezone(-offset if sign == "-" else offset)
    place = _MONTHS.index(month.lower()) + 1
    parts = (int(year), place, int(day), int(hour), int(minute), int(second))
    return datetime(*parts, tzinfo=zone) + timedelta(seconds=float(fraction or 0))
