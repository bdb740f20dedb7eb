"""How long answers get: a survival curve learned from answers that ended.

An answer that stopped by itself shows its length; one that was cut by `max_tokens` shows only that
it would have been longer. Counting the second as the first would teach the model that answers are
as short as the limits clients set, so lengths are learned with the Kaplan-Meier estimator (Kaplan
and Meier, 1958), over buckets whose edges grow by a factor of the square root of two.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from math import exp

_EDGES: tuple[float, ...] = (0.0, *(2.0 ** (k / 2) for k in range(35)))  # up to 131,072 tokens
_REBUILD_EVERY = 16  # observations between two rebuilds of the curve
_PRIOR_WEIGHT = 8.0  # answers that the configured mean is worth
_KEEP = 1.0 - 1.0 / 2000.0  # an answer loses its weight after about 2,000 later ones


class OutputModel:
    """Expected answer length in tokens, given what has been produced and the limit."""

    def __init__(self, default_tokens: int) -> None:
        """Start from answers that end at a constant hazard with a mean of `default_tokens`."""
        self._at_risk = [0.0] * (len(_EDGES) - 1)
        self._ended = [0.0] * (len(_EDGES) - 1)
        self._weight = 1.0
        self._pending = 0
        self._seed(default_tokens)
        self._rebuild()

    def _seed(self, mean: int) -> None:
        for index, (low, high) in enumerate(pairwise(_EDGES)):
            reach = _PRIOR_WEIGHT * exp(-low / mean)
            self._at_risk[index] = reach
            self._ended[index] = reach * (1.0 - exp((low - high) / mean))

    def observe(self, tokens: int, *, censored: bool) -> None:
        """Learn from an answer of `tokens`; `censored` when a limit or an abort cut it."""
        self._weight /= _KEEP
        last = self._bucket(max(tokens, 1) - 0.5)
        for index in range(last + 1):
            self._at_risk[index] += self._weight
        if not censored:
            self._ended[last] += self._weight
        else:
            # It left inside this bucket: half of the bucket's risk was taken, as actuaries count.
            self._at_risk[last] -= self._weight / 2
        self._pending += 1
        if self._pending >= _REBUILD_EVERY:
            self._rebuild()

    def expected_total(self, produced: int, cap: int) -> float:
        """Tokens the answer is expected to end with, given `produced` so far and at most `cap`."""
        if produced >= cap:
            return float(produced)
        alive = max(self._survival(produced), 1e-9)
        further = (self._area(cap) - self._area(produced)) / alive
        return produced + min(max(further, 1.0), cap - produced)

    def _rebuild(self) -> None:
        """Recompute survival and its integral at every edge; normalise the weights."""
        self._pending = 0
        scale, self._weight = 1.0 / self._weight, 1.0
        self._at_risk = [value * scale for value in self._at_risk]
        self._ended = [value * scale for value in self._ended]
        self._curve, self._integral = [1.0], [0.0]
        for (low, high), risk, ended in zip(
            pairwise(_EDGES), self._at_risk, self._ended, strict=True
        ):
            alive = self._curve[-1]
            left = alive * (1.0 - min(ended / risk, 1.0)) if risk > 0.0 else alive
            self._integral.append(self._integral[-1] + (alive + left) / 2 * (high - low))
            self._curve.append(left)

    @staticmethod
    def _bucket(tokens: float) -> int:
        return min(bisect_right(_EDGES, tokens) - 1, len(_EDGES) - 2)

    def _survival(self, tokens: float) -> float:
        index = self._bucket(tokens)
        low, high = _EDGES[index], _EDGES[index + 1]
        share = min((tokens - low) / (high - low), 1.0)
        return self._curve[index] + (self._curve[index + 1] - self._curve[index]) * share

    def _area(self, tokens: float) -> float:
        index = self._bucket(tokens)
        width = min(tokens, _EDGES[-1]) - _EDGES[index]
        return self._integral[index] + (self._curve[index] + self._survival(tokens)) / 2 * width
