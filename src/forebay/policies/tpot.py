"""How the time per output token grows with the sequences that run at once, as learned."""

from __future__ import annotations

import math

_KEEP = 0.5 ** (1 / 500)  # an observation loses half its weight in 500 steps: seconds under load
_FEW = 50.0  # steps' weight, below which nothing is said
_NARROW = 4.0  # variance of running sequences, below which a slope is noise


class TpotModel:
    """Seconds of a step as a line over running sequences, fitted with fading memory.

    The steps seen include those that compute prompts, so it is the pace that users see.
    """

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, running: int, seconds: float) -> None:
        """A step with so many running sequences took so long."""
        self._weight = self._weight * _KEEP + 1.0
        self._x = self._x * _KEEP + running
        self._y = self._y * _KEEP + seconds
        self._xx = self._xx * _KEEP + running * running
        self._xy = self._xy * _KEEP + running * seconds

    def sequences_within(self, tpot_s: float) -> float:
        """Most sequences at once with a step in `tpot_s` or less; infinity where none is known."""
        if self._weight < _FEW:
            return math.inf
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x * mean_x
        slope = 0.0
        if variance > _NARROW:
            slope = (self._xy / self._weight - mean_x * mean_y) / variance
        if slope <= 0.0:
            # All steps alike: past the limit or within it, and a few fewer may tell.
            return math.inf if mean_y <= tpot_s else 0.9 * mean_x
        return mean_x + (tpot_s - mean_y) / slope

    def __repr__(self) -> str:
        return f"<TpotModel {self._weight:.0f} steps>"
