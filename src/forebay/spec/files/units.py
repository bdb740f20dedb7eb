"""Durations and sizes as people write them: `1s`, `1h30m`, `8MiB`, `4GB`.

A bare number is refused: `ttft_p99: 1` reads as a second to one person and as a millisecond to
the next. Inside the program a duration is a float of seconds and a size an int of bytes; written
out again, both get their unit back.
"""

import math
import re
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer
from pydantic_core import PydanticCustomError

from forebay.spec.files.problems import refusal

MIB = 2**20
GIB = 2**30

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"

# In the order in which a compound such as 1h30m is written.
_SECONDS = {
    "d": Fraction(86400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 10**3),
    "us": Fraction(1, 10**6),
}
_BYTES = {
    "TiB": 2**40,
    "GiB": 2**30,
    "MiB": 2**20,
    "KiB": 2**10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
    "B": 1,
}
_BARE = re.compile(_NUMBER)
_DURATION = re.compile(r"\s*".join(rf"(?:({_NUMBER})\s*{unit}(?![a-z]))?" for unit in _SECONDS))
_SIZE = re.compile(rf"({_NUMBER})\s*({'|'.join(_BYTES)})")

_DURATION_HINT = "write a duration such as 1s, 250ms, 2m or 1h30m"
_SIZE_HINT = "write a size such as 512MiB, 8GiB or 4GB"


def parse_seconds(text: str) -> float:
    """Seconds in a duration such as "250ms" or "1h30m".

    Raises:
        PydanticCustomError: no unit, an unknown unit, below zero, or beyond any float.
    """
    text = text.strip()
    if _BARE.fullmatch(text):
        raise refusal(f"{text} has no unit", f"write {text}s or {_in_milliseconds(text)}")
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        raise _refused(text, _DURATION, "a duration", "units: d, h, m, s, ms, us", _DURATION_HINT)
    parts = zip(match.groups(), _SECONDS.values(), strict=True)
    total = sum(Fraction(number) * scale for number, scale in parts if number is not None)
    if total > Fraction(10**12):  # 30,000 years: a typing error
        raise refusal(f"{text} is longer than anything can last", _DURATION_HINT)
    return float(total)


def parse_bytes(text: str) -> int:
    """Bytes in a size such as "8MiB" (8 x 2^20) or "4GB" (4 x 10^9), rounded to a whole byte.

    Raises:
        PydanticCustomError: no unit, an unknown unit, below zero, or beyond any memory.
    """
    text = text.strip()
    if _BARE.fullmatch(text):
        raise refusal(f"{text} has no unit", f"write {text}MiB or {text}GiB")
    match = _SIZE.fullmatch(text)
    if match is None:
        units = "units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB"
        raise _refused(text, _SIZE, "a size", units, _SIZE_HINT)
    number, unit = match.groups()
    size = Fraction(number) * _BYTES[unit]
    if size > 2**60:  # an exbibyte: a typing error
        raise refusal(f"{text} is larger than any memory", _SIZE_HINT)
    return round(size)


def format_seconds(seconds: float) -> str:
    """The duration as `parse_seconds` reads it back, exact to the last bit: "1h30m", "250ms"."""
    if seconds != int(seconds):
        milliseconds = round(seconds * 1000)
        short = 0 < seconds < 1 and milliseconds / 1000 == seconds
        return f"{milliseconds}ms" if short else f"{seconds!r}s"
    if seconds >= 86400:
        return f"{int(seconds)}s" if seconds % 3600 else f"{int(seconds) // 3600}h"
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    parts = (f"{hours}h" * bool(hours), f"{minutes}m" * bool(minutes), f"{left}s" * bool(left))
    return "".join(parts) or "0s"


def format_bytes(size: int) -> str:
    """The size as `parse_bytes` reads it back, in the largest unit that holds it exactly."""
    for unit, scale in _BYTES.items():
        if size >= scale and size % scale == 0:
            return f"{size // scale}{unit}"
    return f"{size}B"


def show_bytes(size: float) -> str:
    """The size for people to read, in the nearest binary unit: "79.65 GiB". Not exact."""
    for unit, scale in (("GiB", GIB), ("MiB", MIB)):
        if abs(size) >= scale:
            return f"{size / scale:.4g} {unit}"
    return f"{size / 2**10:.4g} KiB"


def _seconds(value: object) -> float:
    if isinstance(value, str):
        return parse_seconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return parse_seconds(f"{value}")
    raise refusal(f"{_shown(value)} is not a duration", _DURATION_HINT)


def _bytes(value: object) -> int:
    if isinstance(value, str):
        return parse_bytes(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return parse_bytes(f"{value}")
    raise refusal(f"{_shown(value)} is not a size", _SIZE_HINT)


def _refused(
    text: str, pattern: re.Pattern[str], what: str, units: str, hint: str
) -> PydanticCustomError:
    """Why `text` does not match: below zero, or not in the form at all."""
    positive = text.removeprefix("-")
    if positive != text and (pattern.fullmatch(positive) or _BARE.fullmatch(positive)):
        return refusal(f"{text} is below zero", hint)
    return refusal(f"{text!r} is not {what} ({units})", hint)


def _in_milliseconds(number: str) -> str:
    return f"{float(Fraction(number) * 1000):.15g}ms"


def _shown(value: object) -> str:
    if value is None:
        return "an empty value"
    return str(value).lower() if isinstance(value, bool) else repr(value)


Seconds = Annotated[float, BeforeValidator(_seconds), PlainSerializer(format_seconds)]
Bytes = Annotated[int, BeforeValidator(_bytes), PlainSerializer(format_bytes)]
