from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.report import words
from forebay.report.svg import Scale, fan, frame, line, nice_step


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


def test_a_log_scale_of_few_decades_has_ticks_between_them() -> None:
    assert Scale(0.03, 3, 0, 1, log=True).ticks(4) == pytest.approx([0.05, 0.1, 0.2, 0.5, 1, 2])


def test_a_line_breaks_where_nothing_is_known() -> None:
    area = frame(960, 300, 10.0, (0.0, 1.0))
    path = line(area, [(0.0, 0.5), (1.0, None), (2.0, 0.5), (3.0, 0.6)], "series")
    assert path.count("M") == 2
    assert path.count("L") == 1
    assert line(area, [(0.0, None)], "series") == ""


def test_a_fan_breaks_where_nothing_is_known() -> None:
    area = frame(960, 300, 10.0, (0.0, 1.0))
    some = [(float(x), 0.2, 0.8) for x in range(3)]
    assert fan(area, [*some, (3.0, None, 0.8), *some], "band").count("Z") == 2
    assert fan(area, some[:1], "band") == ""


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
    assert [words.rate(v) for v in (None, 0.0, 0.0278, 0.5, 99.94, 99.96, 2134.4)] == [
        "–", "0.0", "0.028", "0.5", "99.9", "100", "2,134",
    ]  # fmt: skip


def test_a_share_keeps_the_digits_of_a_small_one_and_is_not_rounded_up_to_all() -> None:
    parts = ((0, 9), (1, 250), (899, 1000), (99_999, 100_000), (5, 5), (1, 0))
    assert [words.portion(*part) for part in parts] == [
        "0 %", "0.4 %", "89.9 %", ">99.9 %", "100 %", "–",
    ]  # fmt: skip


def test_an_interval_says_only_the_bounds_that_are_known() -> None:
    inf = math.inf
    bounds = ((0.9, 1.3), (0.9, inf), (-inf, 1.3), (-inf, inf))
    assert [words.between(*pair, words.seconds) for pair in bounds] == [
        "900 ms to 1.30 s", "at least 900 ms", "at most 1.30 s", "",
    ]  # fmt: skip


def test_short_numbers() -> None:
    assert [words.short(v) for v in (0.0, 50.0, 1500.0, 2e6)] == ["0", "50", "1.5k", "2M"]


@given(st.text(), st.integers(2, 50))
def test_text_from_outside_fits_on_a_line_and_into_utf_8(text: str, most: int) -> None:
    shown = words.plain(text, most)
    assert len(shown) <= most
    assert shown.isprintable()
    shown.encode("utf-8")
    assert words.plain(shown) == shown.strip() or "…" in shown
