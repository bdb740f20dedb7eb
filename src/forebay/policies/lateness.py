"""How much later than predicted first tokens come, at worst: a bound learned from those that came.

A predicted wait errs in proportion to its length (the engine is slower or faster than it was) and
by some constant (where in a step an arrival falls). So errors are taken relative to the prediction
plus a constant, and the bound is their mean and 2.33 standard deviations: the 99th percentile of a
normal law. A quantile followed sample by sample would need hundreds of first tokens to find one in
a hundred; two moments need some tens, and an engine that computes long prompts has no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

_Z = 2.33  # standard deviations above the mean, of one in a hundred
_KEEP = 0.5 ** (1 / 100)  # a first token loses half its weight in 100 more
_PRIOR_WEIGHT, _PRIOR_DEVIATION = 10.0, 0.1  # believed before anything came, as of 10 first tokens
_MOST = 2.0  # an error of more than twice the wait itself was a standstill, and counts as that
_SILENT_S, _HALF_LIFE_S = 5.0, 10.0  # without first tokens, from when on the bound halves


@dataclass(slots=True)
class Lateness:
    """An upper bound on the error of predictions.

    Attributes:
        constant_s: added to each prediction before an error is taken relative to it, in seconds.
        ceiling_s: the bound is never above it, in seconds.
    """

    constant_s: float
    ceiling_s: float
    _weight: float = _PRIOR_WEIGHT
    _sum: float = 0.0
    _squares: float = _PRIOR_WEIGHT * _PRIOR_DEVIATION**2
    _observed_at: float | None = None

    def add(self, predicted_s: float, actual_s: float, now: float) -> None:
        """A first token came at `now`, `actual_s` after `predicted_s` had been predicted."""
        error = (actual_s - predicted_s) / (predicted_s + self.constant_s)
        error = min(error, _MOST)
        self._weight = self._weight * _KEEP + 1.0
        self._sum = self._sum * _KEEP + error
        self._squares = self._squares * _KEEP + error * error
        self._observed_at = now

    def of(self, predicted_s: float, now: float, caution: float = 1.0) -> float:
        """Seconds by which a first token predicted so may be late; >= 0, at most the ceiling.

        `caution` of 1 takes one in a hundred to be later, of 0 every second (see `caution.py`).
        With nothing observed it fades, so that one bad minute is forgotten even when it led to
        nothing being admitted.
        """
        mean = self._sum / self._weight
        deviation = sqrt(max(self._squares / self._weight - mean * mean, 0.0))
        bound_s = (mean + _Z * caution * deviation) * (predicted_s + self.constant_s)
        silent_s = 0.0 if self._observed_at is None else now - self._observed_at - _SILENT_S
        if silent_s > 0.0:
            bound_s *= 0.5 ** (silent_s / _HALF_LIFE_S)
        return min(max(bound_s, 0.0), self.ceiling_s)
