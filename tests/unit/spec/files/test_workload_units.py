"""Rates and shares as people write them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from forebay.spec.files import Rate, Share, format_rate, parse_rate, parse_share


class Written(BaseModel):
    rate: Rate = 1.0
    share: Share = 1.0


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20/s", 20.0),
        ("600/min", 10.0),
        ("600/m", 10.0),
        ("7200/h", 2.0),
        ("0/s", 0.0),
        (" 2.5 / s ", 2.5),
        ("1e3/s", 1000.0),
        ("1e-3/s", 0.001),
    ],
)
def test_a_rate_is_read_in_requests_a_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate == Written(rate=text).rate  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("20", "20 has no unit"),
        ("-1/s", "-1/s is below zero"),
        ("-3", "-3 is below zero"),
        ("20/d", "'20/d' is not a rate"),
        ("20 req/s", "is not a rate"),
        ("/s", "is not a rate"),
        ("", "is not a rate"),
        ("20/s/s", "is not a rate"),
        ("nan/s", "is not a rate"),
        ("1e999/s", "is not a rate"),
        ("٣/s", "is not a rate"),
    ],
)
def test_what_is_no_rate_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(PydanticCustomError, match=words):
        parse_rate(text)


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (20, "20 has no unit", "write 20/s"),
        (1234567.5, "1234567.5 has no unit", "write 1234567.5/s"),
        (True, "True is not a rate", "write a rate such as 20/s, 600/min or 1000/h"),
        (float("nan"), "nan is not a rate", "write a rate such as 20/s, 600/min or 1000/h"),
        ([], "[] is not a rate", "write a rate such as 20/s, 600/min or 1000/h"),
        (-2, "-2 is below zero", "write a rate such as 20/s, 600/min or 1000/h"),
    ],
)
def test_a_rate_without_unit_is_answered_with_what_to_write(
    value: object, message: str, hint: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Written(rate=value)  # type: ignore[arg-type]
    (error,) = refused.value.errors()
    assert error["ctx"] == {"message": message, "hint": hint}


@pytest.mark.parametrize(
    ("value", "share"),
    [("5%", 0.05), ("5 %", 0.05), ("0.05", 0.05), (0.05, 0.05), (1, 1.0), ("100%", 1.0), (0, 0.0)],
)
def test_a_share_is_read_as_a_part_of_1(value: object, share: float) -> None:
    assert Written(share=value).share == share  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["5", 5, "101%", "-1%", "half", "", "nan", "%", "0x1"])
def test_what_is_no_share_is_refused_with_what_to_write(value: object) -> None:
    with pytest.raises(PydanticCustomError, match="is not a share between 0 and 100 %") as refused:
        parse_share(str(value))
    assert (refused.value.context or {})["hint"] == "write a share such as 5% or 0.05"


@pytest.mark.parametrize("value", [True, None, [], {}])
def test_what_is_neither_text_nor_number_is_no_share(value: object) -> None:
    with pytest.raises(ValidationError, match="is not a share"):
        Written(share=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rate", "text"), [(20.0, "20/s"), (0.0, "0/s"), (2.5, "2.5/s")])
def test_a_rate_is_written_as_people_do(rate: float, text: str) -> None:
    assert format_rate(rate) == text


@given(st.floats(0, 1e308))
def test_a_rate_survives_writing_and_reading(rate: float) -> None:
    assert parse_rate(format_rate(rate)) == rate


@given(st.floats(0, 1))
def test_a_share_survives_writing_and_reading(share: float) -> None:
    assert Written(share=Written(share=share).model_dump(mode="json")["share"]).share == share


@given(st.text(max_size=9))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for parse in (parse_rate, parse_share):
        with contextlib.suppress(PydanticCustomError):
            assert parse(text) >= 0
