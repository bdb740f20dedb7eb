"""How good predictions were, as the status says it."""

from __future__ import annotations

import pytest

from forebay.measure import RECENT, PredictionQuality


def test_error_is_relative_and_bias_is_signed() -> None:
    quality = PredictionQuality()
    assert (quality.error, quality.bias) == (None, None)
    for predicted, actual in ((1.2, 1.0), (0.9, 1.0), (3.0, 2.0)):
        quality.add(predicted, actual)
    assert quality.error == pytest.approx(0.2)  # of 0.2, 0.1, 0.5
    assert quality.bias == pytest.approx(5.1 / 4.0 - 1)


def test_old_predictions_are_forgotten() -> None:
    quality = PredictionQuality()
    quality.add(100.0, 1.0)
    for _ in range(RECENT):
        quality.add(1.0, 1.0)
    assert (quality.error, quality.bias) == (0.0, 0.0)
