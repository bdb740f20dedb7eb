"""From what the model predicts to what is expected: predictions set right by what came true.

Admission decides by a cautious figure, an upper quantile. What users are told and what is judged
(`/forebay/status`) is the expected one. For who waits for slots it is a line through the latest
predictions and first tokens: the model leaves a constant out and counts too much of the rest. For
who waits only for steps it is a factor: what makes these late makes them late by a multiple, and
those that are very late should not move what most are told.
"""

from __future__ import annotations

from math import exp, log

_KEEP = 0.5 ** (1 / 200)  # a first token loses half its weight in 200 more
_FEW = 20.0  # first tokens' weight, below which predictions are taken as they are
_KEEP_FACTOR = 0.5 ** (1 / 100)
_MOST_OFF = 0.2  # of logarithms: a fifth of what is usual
_LEAST_SLOPE, _MOST_SLOPE = 0.0, 3.0


class TTFTCorrection:
    """A fading fit of first tokens to predictions, both in seconds."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, predicted_s: float, actual_s: float) -> None:
        """A first token came `actual_s` after the model had predicted `predicted_s`."""
        self._weight = self._weight * _KEEP + 1.0
        self._x = self._x * _KEEP + predicted_s
        self._y = self._y * _KEEP + actual_s
        self._xx = self._xx * _KEEP + predicted_s * predicted_s
        self._xy = self._xy * _KEEP + predicted_s * actual_s

    def of(self, predicted_s: float) -> float:
        """What is to be expected where the model predicts `predicted_s`."""
        if self._weight < _FEW:
            return predicted_s
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x * mean_x
        slope = 0.0
        if variance > 1e-12:
            slope = (self._xy / self._weight - mean_x * mean_y) / variance
        slope = min(max(slope, _LEAST_SLOPE), _MOST_SLOPE)
        return max(mean_y + slope * (predicted_s - mean_x), 0.0)

    def __repr__(self) -> str:
        return f"<Expectation {self._weight:.0f} first tokens>"


class Factor:
    """What usually came true over what was predicted: a fading mean of logarithms, after Huber.

    A first token that is off by more than `_MOST_OFF` pulls no harder than one that is off by that
    (P. J. Huber, Robust Estimation of a Location Parameter, 1964).
    """

    def __init__(self) -> None:
        self._weight = self._log = 0.0

    def add(self, predicted_s: float, actual_s: float) -> None:
        """A first token came `actual_s` after the model had predicted `predicted_s`; both > 0."""
        if predicted_s <= 0.0 or actual_s <= 0.0:
            return
        self._weight = self._weight * _KEEP_FACTOR + 1.0
        off = log(actual_s / predicted_s) - self._log
        if self._weight > _FEW:
            off = min(max(off, -_MOST_OFF), _MOST_OFF)
        self._log += off / self._weight

    def of(self, predicted_s: float) -> float:
        """What is to be expected where the model predicts `predicted_s`."""
        return predicted_s if self._weight < _FEW else predicted_s * exp(self._log)

    def __repr__(self) -> str:
        return f"<Factor {self._weight:.0f} first tokens>"
