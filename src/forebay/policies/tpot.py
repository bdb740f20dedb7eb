"""How the time per output token grows with the sequences that run at once, as learned.

A bound learned from what it lets happen could close in on itself: few sequences are let in, only
few are seen, and a slope fitted to them is noise. So a slope is believed only where it stands out
from the noise, is kept when the load says nothing of it, and fades when nothing has confirmed it
for long; and no bound is set so low that fewer sequences would hardly make tokens come sooner.
"""

from __future__ import annotations

from math import inf, sqrt

_KEEP = 0.5 ** (1 / 500)  # an observation loses half its weight in 500 steps: seconds under load
_FADE = 0.5 ** (1 / 20_000)  # so does a slope that nothing confirms, in minutes
_FEW = 50.0  # steps' weight, below which nothing is said
_NARROW = 1.0  # variance of running sequences, below which they say nothing of a slope
_SURE = 3.0  # standard errors by which a slope is above 0 when it is believed
_TELLING = 16.0  # sequences, of which a quarter fewer would show a slope
# A step may count as this many usual ones: a standstill of the machine is not its pace.
_MOST_TIMES = 10.0
# The promise is taken to be at least so many times the pace of a lone sequence. To keep a tighter
# one, a bound would have to give away most of the engine for little.
_LEAST_STRETCH = 1.25


class TpotModel:
    """Seconds of a step as a line over running sequences, fitted with fading memory.

    The steps seen include those that compute prompts, so it is the pace that users see.
    """

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = self._yy = 0.0
        self._slope = 0.0  # seconds per sequence; 0: not known

    def add(self, running: int, seconds: float) -> None:
        """A step with so many running sequences took so long."""
        if self._weight >= _FEW:
            seconds = min(seconds, _MOST_TIMES * self._y / self._weight)
        self._weight = self._weight * _KEEP + 1.0
        self._x = self._x * _KEEP + running
        self._y = self._y * _KEEP + seconds
        self._xx = self._xx * _KEEP + running * running
        self._xy = self._xy * _KEEP + running * seconds
        self._yy = self._yy * _KEEP + seconds * seconds
        self._slope *= _FADE
        self._confirm()

    def _confirm(self) -> None:
        """Take the slope of the steps seen, where it stands out from their noise."""
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        variance = self._xx / self._weight - mean_x * mean_x
        if self._weight < _FEW or variance < _NARROW:
            return
        slope = (self._xy / self._weight - mean_x * mean_y) / variance
        noise = max(self._yy / self._weight - mean_y * mean_y - slope * slope * variance, 0.0)
        if slope > _SURE * sqrt(noise / (variance * self._weight)):
            self._slope = slope

    def sequences_within(self, tpot_s: float) -> float:
        """Most sequences at once with a step in `tpot_s` or less; infinity where none is known."""
        if self._weight < _FEW:
            return inf
        mean_x, mean_y = self._x / self._weight, self._y / self._weight
        if self._slope <= 0.0:
            # All steps alike. Past the promise, a few sequences fewer may tell why.
            return 0.75 * mean_x if mean_y > tpot_s and mean_x > _TELLING else inf
        alone_s = mean_y - self._slope * (mean_x - 1.0)
        return 1.0 + (max(tpot_s, _LEAST_STRETCH * alone_s) - alone_s) / self._slope

    def __repr__(self) -> str:
        return f"<TpotModel {self._weight:.0f} steps, {1e6 * self._slope:.0f} us per sequence>"
