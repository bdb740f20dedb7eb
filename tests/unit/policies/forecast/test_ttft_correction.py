"""Predictions set right by what came true."""

from __future__ import annotations

import random

import pytest

from forebay.policies.forecast.expected_ttft import TTFTCorrection


def taught(slope: float, offset_s: float, count: int = 400) -> TTFTCorrection:
    rng = random.Random(1)
    made = TTFTCorrection()
    for _ in range(count):
        predicted = rng.uniform(0.01, 0.6)
        made.add(predicted, slope * predicted + offset_s + rng.gauss(0.0, 0.01))
    return made


def test_a_model_that_is_wrong_by_a_line_is_set_right() -> None:
    made = taught(0.6, 0.03)
    for predicted in (0.05, 0.3, 0.6):
        assert made.of(predicted) == pytest.approx(0.6 * predicted + 0.03, abs=0.01)


def test_before_anything_is_known_the_model_is_believed() -> None:
    assert taught(0.2, 0.5, count=10).of(0.3) == 0.3


def test_it_follows_an_engine_that_changes() -> None:
    made = taught(0.5, 0.0)
    for _ in range(1500):
        made.add(0.2, 0.4)
    assert made.of(0.2) == pytest.approx(0.4, rel=0.1)


def test_predictions_that_are_all_alike_have_no_slope_to_be_trusted() -> None:
    made = TTFTCorrection()
    for _ in range(100):
        made.add(0.1, 0.2)
    assert made.of(5.0) == pytest.approx(0.2)
    assert taught(-3.0, 1.0).of(10.0) >= 0.0
