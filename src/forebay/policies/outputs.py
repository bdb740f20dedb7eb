"""How long answers get: a survival curve learned from answers that ended.

An answer that stopped by itself shows its length; one that was cut by `max_tokens` shows only that
it would have been longer. Counting the second as the first would teach the model that answers are
as short as the limits clients set, so lengths are learned with the Kaplan-Meier estimator (Kaplan
and Meier, 1958), over buckets whose edges grow by a factor of the square root of two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil, exp

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Prior = tuple[list[float], list[float]]  # answers that reach each bucket, and those that end in it

_EDGES: tuple[float, ...] = (0.0, *(2.0 ** (k / 2) for k in range(35)))  # up to 131,072 tokens
_EDGES_ARRAY = np.array(_EDGES)
_FIRST_TOKENS = frozenset(ceil(edge) for edge in _EDGES)  # with which an answer enters a bucket
_REBUILD_EVERY = 16  # events between two rebuilds of the curve
_PRIOR_WEIGHT = 2.0  # answers that the prior is worth
# Until answers were seen, they are taken to run on: promising a slot that does not come free costs
# a broken promise, promising none costs a few refusals.
_PRIOR_STRETCH = 4.0
_KEEP = 1.0 - 1.0 / 20_000.0  # an event loses its weight after about 20,000 later ones


class Curve:
    """Survival at every edge, by Kaplan and Meier, and its integral.

    Attributes:
        shares: of answers that are longer than each edge.
    """

    def __init__(self, at_risk: Sequence[float], ended: Sequence[float]) -> None:
        """Of so many answers that reached each bucket, so many ended in it."""
        self.shares, self._integral = [1.0], [0.0]
        for (low, high), risk, gone in zip(pairwise(_EDGES), at_risk, ended, strict=True):
            alive = self.shares[-1]
            left = alive * (1.0 - min(gone / risk, 1.0)) if risk > 0.0 else alive
            self._integral.append(self._integral[-1] + (alive + left) / 2 * (high - low))
            self.shares.append(left)

    def at(self, tokens: float) -> tuple[float, float]:
        """Share of answers that are longer than `tokens`, and its integral up to there."""
        index = _bucket(tokens)
        low, high = _EDGES[index], _EDGES[index + 1]
        first, last = self.shares[index], self.shares[index + 1]
        width = min(tokens, high) - low
        alive = first + (last - first) * width / (high - low)
        return alive, self._integral[index] + (first + alive) / 2 * width


class OutputModel:
    """Expected answer length in tokens, given what has been produced and the limit."""

    def __init__(self, default_tokens: int) -> None:
        """Start from answers that end at a constant hazard, with several times this mean."""
        self._at_risk = [0.0] * (len(_EDGES) - 1)
        self._ended = [0.0] * (len(_EDGES) - 1)
        self._weight = 1.0
        self._pending = 0
        self._cautious_prior = _prior(default_tokens * _PRIOR_STRETCH)
        self._likely_prior = _prior(default_tokens)
        self._rebuild()

    def passed(self, before: int, after: int) -> None:
        """An answer went on from `before` to `after` tokens: it survived the buckets it left."""
        if after - before == 1 and after not in _FIRST_TOKENS:
            return  # as nearly every token does
        if bisect_right(_EDGES, before) == bisect_right(_EDGES, after):
            return
        for index in range(_bucket(before), _bucket(after)):
            self._at_risk[index] += self._weight
        self._aged()

    def passed_together(self, spans: Iterable[tuple[int, int]]) -> None:
        """Answers went on side by side, each from `before` to `after`, a token of each at a time.

        As if `passed` had been told of each token: in the order in which they came.
        """
        crossings = {
            (ceil(edge) - before, place, before)
            for place, (before, after) in enumerate(spans)
            for edge in _EDGES[bisect_right(_EDGES, before) : bisect_right(_EDGES, after)]
        }
        for step, _, before in sorted(crossings):
            self.passed(before + step - 1, before + step)

    def ended(self, tokens: int, *, natural: bool) -> None:
        """An answer of `tokens` ended: by itself (`natural`), or at a limit or an abort.

        What it survived before was told by `passed`.
        """
        last = _bucket(tokens)
        if natural:
            self._at_risk[last] += self._weight
            self._ended[last] += self._weight
        else:
            # It left inside this bucket: half of the bucket's risk was taken, as actuaries count.
            self._at_risk[last] += self._weight / 2
        self._aged()

    def _aged(self) -> None:
        self._weight /= _KEEP
        self._pending += 1
        if self._pending >= _REBUILD_EVERY:
            self._rebuild()

    def expected_total(self, produced: int, cap: int) -> float:
        """Tokens the answer is expected to end with, given `produced` so far and at most `cap`."""
        if produced >= cap:
            return float(produced)
        alive, before = self._curve.at(produced)
        further = (self._curve.at(cap)[1] - before) / max(alive, 1e-9)
        return produced + min(max(further, 1.0), cap - produced)

    def likely_total(self, cap: int) -> float:
        """The same of an answer that has not begun, without caution before any were seen."""
        return min(max(self._likely.at(cap)[1], 1.0), cap)

    def _rebuild(self) -> None:
        """Recompute survival and its integral at every edge; normalise the weights."""
        self._pending = 0
        scale, self._weight = 1.0 / self._weight, 1.0
        for tally in (self._at_risk, self._ended, *self._cautious_prior, *self._likely_prior):
            tally[:] = [value * scale for value in tally]
        self._curve = self._curve_from(self._cautious_prior)
        self._likely = self._curve_from(self._likely_prior)
        self._curve_array = np.array(self._curve.shares)

    def _curve_from(self, prior: Prior) -> Curve:
        return Curve(
            [seen + assumed for seen, assumed in zip(self._at_risk, prior[0], strict=True)],
            [seen + assumed for seen, assumed in zip(self._ended, prior[1], strict=True)],
        )

    def survival_at(self, tokens: Floats) -> Floats:
        """Share of answers that are longer than `tokens`, for an array of any shape."""
        share: Floats = np.interp(tokens, _EDGES_ARRAY, self._curve_array)
        return share


def _bucket(tokens: float) -> int:
    return min(bisect_right(_EDGES, tokens) - 1, len(_EDGES) - 2)


def _prior(mean: float) -> Prior:
    """A few answers that end at a constant hazard."""
    at_risk = [_PRIOR_WEIGHT * exp(-low / mean) for low in _EDGES[:-1]]
    ended = [
        reach * (1.0 - exp((low - high) / mean))
        for reach, (low, high) in zip(at_risk, pairwise(_EDGES), strict=True)
    ]
    return at_risk, ended
