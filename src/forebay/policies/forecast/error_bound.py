"""How much later than predicted first tokens come, at worst: a bound learned from those that came.

A predicted wait errs in proportion to its length (the engine is slower or faster than it was) and
by some constant (where in a step an arrival falls; what the front end takes where many come at
once). So errors are taken relative to the prediction plus a constant, and fitted by a line in the
constant's share of that: with a mean alone, what comes of a constant would be multiplied for those
who wait long. The bound is the line and 2.33 standard deviations off it: the 99th percentile of a
normal law. A quantile followed sample by sample would need hundreds of first tokens to find one in
a hundred; moments need some tens, and an engine that computes long prompts has no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

_Z = 2.33  # standard deviations above the mean, of one in a hundred
_KEEP = 0.5 ** (1 / 100)  # a first token loses half its weight in 100 more
_PRIOR_WEIGHT, _PRIOR_DEVIATION = 10.0, 0.1  # believed before anything came, as of 10 first tokens
# Added to the squares of that share, lest those who waited nearly as long tell a line. (Ridge
# regression: Hoerl and Kennard, Technometrics 12, 1970.)
_RIDGE = 0.3
_SEEN = 2.0  # standard deviations of that share, up to which the line is believed
_MOST = 2.0  # an error of more than twice the wait itself was a standstill, and counts as that
# The correction may take this share of the tightest budget. A larger error is the model's, and
# would be answered by refusing nearly everything for as long as it is remembered.
_LARGEST_CORRECTION = 0.5
_ERRS_BY = 0.25  # of the tightest budget: what a prediction of 0 errs in proportion to
_SILENT_S, _HALF_LIFE_S = 5.0, 10.0  # without first tokens, from when on the bound halves


@dataclass(slots=True)
class ErrorBound:
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
    _seen: float = 0.0  # the weight without the prior's, whose errors are none
    _shares: float = 0.0
    _shares_squared: float = 0.0
    _products: float = 0.0
    _observed_at: float | None = None

    def add(self, predicted_s: float, actual_s: float, now: float) -> None:
        """A first token came at `now`, `actual_s` after `predicted_s` had been predicted."""
        relative_to_s = predicted_s + self.constant_s
        error = min((actual_s - predicted_s) / relative_to_s, _MOST)
        share = self.constant_s / relative_to_s
        self._weight = self._weight * _KEEP + 1.0
        self._sum = self._sum * _KEEP + error
        self._squares = self._squares * _KEEP + error * error
        self._seen = self._seen * _KEEP + 1.0
        self._shares = self._shares * _KEEP + share
        self._shares_squared = self._shares_squared * _KEEP + share * share
        self._products = self._products * _KEEP + error * share
        self._observed_at = now

    def of(self, predicted_s: float, now: float, confidence: float = 1.0) -> float:
        """Seconds by which a first token predicted so may be late; >= 0, at most the ceiling.

        `confidence` of 1 takes one in a hundred to be later, of 0 every second (see
        `promises.py`). With nothing observed it fades, so that one bad minute is forgotten even
        when it led to nothing being admitted.
        """
        relative_to_s = predicted_s + self.constant_s
        mean_share = self._shares / self._seen if self._seen else 0.0
        squares = max(self._shares_squared - mean_share * self._shares, 0.0)
        products = self._products - mean_share * self._sum
        slope = products / (squares + _RIDGE)
        told = slope * (2.0 * products - slope * squares)  # of the squares of errors, by the line
        spread = _SEEN * sqrt(squares / self._seen) if self._seen else 0.0
        beside = min(max(self.constant_s / relative_to_s - mean_share, -spread), spread)
        mean = self._sum / self._weight
        deviation = sqrt(max((self._squares - told) / self._weight - mean * mean, 0.0))
        bound_s = (mean + slope * beside + _Z * confidence * deviation) * relative_to_s
        silent_s = 0.0 if self._observed_at is None else now - self._observed_at - _SILENT_S
        if silent_s > 0.0:
            bound_s *= 0.5 ** (silent_s / _HALF_LIFE_S)
        return min(max(bound_s, 0.0), self.ceiling_s)


def nothing_late_yet(tightest_s: float) -> ErrorBound:
    """The bound before any first token came, where the tightest budget is so many seconds."""
    return ErrorBound(constant_s=_ERRS_BY * tightest_s, ceiling_s=_LARGEST_CORRECTION * tightest_s)
