from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.report import words
from forebay.report.svg import Scale, nice_step


@given(st.floats(1e-6, 1e9))
def test_steps_are_round_and_no_smaller_than_asked(rough: float) -> None:
    step = nice_step(rough)
    digit = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert round(digit, 6) in (1, 2, 5)
    assert rough * (1 - 1e-6) <= step <= 10 * rough


@pytest.mark.parametrize("value", [0.0, -3.0, math.nan])
def test_a_step_of_nothing_is_one(value: float) -> None:
    assert nice_step(value) == 1.0


def test_scales_map_ends_to_ends_and_clip() -> None:
    linear, log = Scale(0, 10, 100, 0), Scale(0.01, 1, 0, 100, log=True)
    assert [linear(v) for v in (-5, 0, 5, 10, 99)] == [100, 100, 50, 0, 0]
    assert [round(log(v)) for v in (0.001, 0.01, 0.1, 1, 5)] == [0, 0, 50, 100, 100]


def test_ticks_lie_on_round_values() -> None:
    assert Scale(0, 80, 0, 1).ticks(10) == [0, 10, 20, 30, 40, 50, 60, 70, 80]
    assert Scale(0.004, 3, 0, 1, log=True).ticks(4) == pytest.approx([0.01, 0.1, 1])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (math.nan, "–"), (math.inf, "∞"), (0.0004, "0.4 ms"), (0.0832, "83 ms"),
        (0.00996, "10 ms"), (0.9996, "1.00 s"), (12.345, "12.35 s"),
    ],
)  # fmt: skip
def test_seconds(value: float | None, text: str) -> None:
    assert words.seconds(value) == text


def test_other_words() -> None:
    assert [words.limit(v) for v in (1.0, 0.25, 1.5)] == ["1 s", "250 ms", "1.5 s"]
    assert [words.rate(v) for v in (None, 0.04, 99.94, 99.96, 2134.4)] == [
        "–", "0.0", "99.9", "100", "2,134",
    ]  # fmt: skip
    assert (words.share(9, 10), words.share(1, 0)) == ("90 %", "–")
    assert (words.factor(0.5), words.factor(3.0)) == ("0.5×", "3×")
