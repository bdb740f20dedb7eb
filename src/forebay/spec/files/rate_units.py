"""Rates and shares as people write them: `20/s`, `600/min`, `5 %`.

Inside the program a rate is a float of requests/s, and a share a float from 0 to 1.
"""

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from forebay.spec.files.problems import refusal

_NUMBER = r"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)"
_PER_S = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}
_RATE = re.compile(rf"{_NUMBER}\s*/\s*({'|'.join(_PER_S)})")
_SHARE = re.compile(rf"{_NUMBER}\s*(%?)")
_RATE_HINT = "write a rate such as 20/s, 600/min or 1000/h"
_SHARE_HINT = "write a share such as 5% or 0.05"


def parse_rate(text: str) -> float:
    """Requests/s in a rate such as "20/s" or "600/min".

    Raises:
        PydanticCustomError: it is none, has no unit, is below zero or beyond any float.
    """
    text = text.strip()
    match = _RATE.fullmatch(text)
    if match is not None and math.isfinite(float(match.group(1))):
        return float(match.group(1)) / _PER_S[match.group(2)]
    if re.fullmatch(_NUMBER, text):
        raise refusal(f"{text} has no unit", f"write {text}/s")
    if re.fullmatch(rf"-{_NUMBER}.*", text):
        raise refusal(f"{text} is below zero", _RATE_HINT)
    raise refusal(f"{text!r} is not a rate", _RATE_HINT)


def parse_share(text: str) -> float:
    """The share, 0 to 1, in "5 %" or "0.05".

    Raises:
        PydanticCustomError: it is none.
    """
    match = _SHARE.fullmatch(text.strip())
    share = math.nan
    if match is not None:
        share = float(match.group(1)) / (100 if match.group(2) else 1)
    if not 0 <= share <= 1:
        raise refusal(f"{text!r} is not a share between 0 and 100 %", _SHARE_HINT)
    return share


def format_rate(rate: float) -> str:
    """The rate as `parse_rate` reads it back, exact to the last bit: "20/s"."""
    short = f"{rate:.12g}"
    return f"{short if float(short) == rate else repr(float(rate))}/s"


def _rate(value: object) -> float:
    if isinstance(value, str):
        return parse_rate(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return parse_rate(str(value))
    raise refusal(f"{value!r} is not a rate", _RATE_HINT)


def _share(value: object) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return parse_share(str(value))
    raise refusal(f"{value!r} is not a share", _SHARE_HINT)


Rate = Annotated[float, BeforeValidator(_rate), PlainSerializer(format_rate)]
Share = Annotated[float, BeforeValidator(_share)]
