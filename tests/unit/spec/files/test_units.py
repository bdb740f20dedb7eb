import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from forebay.spec.files import format_bytes, format_seconds, parse_seconds, show_bytes
from forebay.spec.files.units import parse_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("250ms", 0.25),
        ("35ms", 0.035),
        ("2m", 120.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5h", 5400.0),
        ("1d", 86400.0),
        ("1m1s500ms", 61.5),
        ("0s", 0.0),
        ("1e-7s", 1e-7),
        (" 20us ", 2e-5),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8MiB", 8 * 2**20),
        ("1GiB", 2**30),
        ("4GB", 4 * 10**9),
        ("512KiB", 512 * 2**10),
        ("1.5 GiB", 3 * 2**29),
        ("0B", 0),
        ("1.5B", 2),
    ],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1", "1 has no unit"),
        ("0.5", "0.5 has no unit"),
        ("-1s", "-1s is below zero"),
        ("-3", "-3 is below zero"),
        ("1sec", "is not a duration"),
        ("1 minute", "is not a duration"),
        ("30m1h", "is not a duration"),
        ("1M", "is not a duration"),
        ("s", "is not a duration"),
        ("", "is not a duration"),
        ("1GiB", "is not a duration"),
        ("١s", "is not a duration"),
        ("1e300s", "longer than anything"),
    ],
)
def test_what_is_no_duration_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(PydanticCustomError, match=words):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("4", "4 has no unit"),
        ("-4GiB", "-4GiB is below zero"),
        ("4gb", "is not a size"),
        ("4G", "is not a size"),
        ("1e400B", "larger than any memory"),
        ("", "is not a size"),
        ("1s", "is not a size"),
    ],
)
def test_what_is_no_size_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(PydanticCustomError, match=words):
        parse_bytes(text)


def test_a_bare_number_is_answered_with_what_to_write() -> None:
    with pytest.raises(PydanticCustomError) as refused:
        parse_seconds("1")
    assert refused.value.context == {
        "message": "1 has no unit",
        "hint": "write 1s or 1000ms",
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1s"),
        (0.25, "250ms"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (600, "10m"),
        (0, "0s"),
        (1.5, "1.5s"),
    ],
)
def test_a_duration_is_written_as_people_do(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@given(st.floats(min_value=0, max_value=1e12, allow_nan=False))
def test_a_duration_survives_writing_and_reading(seconds: float) -> None:
    assert parse_seconds(format_seconds(seconds)) == seconds


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_survives_writing_and_reading(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


@given(st.text(max_size=12))
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for parse in (parse_seconds, parse_bytes):
        with contextlib.suppress(PydanticCustomError):
            assert parse(text) >= 0


def test_a_size_is_shown_in_the_unit_that_reads_best() -> None:
    assert show_bytes(81_559 * 2**20) == "79.65 GiB"
    assert show_bytes(40 * 2**20) == "40 MiB"
    assert show_bytes(512) == "0.5 KiB"
    assert show_bytes(-2 * 2**30) == "-2 GiB"
