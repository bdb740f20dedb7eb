"""How long answers get: a survival curve learned from answers that ended.

An answer that stopped by itself shows its length; one that was cut by `max_tokens` shows only that
it would have been longer. Counting the second as the first would teach the model that answers are
as short as the limits clients set, so lengths are learned with the Kaplan-Meier estimator (Kaplan
and Meier, 1958), over buckets whose edges grow by a factor of the square root of two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from math import ceil

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_EDGES: tuple[float, ...] = (0.0, *(2.0 ** (k / 2) for k in range(35)))  # up to 131,072 tokens
_EDGES_ARRAY = np.array(_EDGES)
_WIDTHS = np.diff(_EDGES_ARRAY)
_FIRST_TOKENS = frozenset(ceil(edge) for edge in _EDGES)  # with which an answer enters a bucket
_REBUILD_EVERY = 16  # events between two rebuilds of the curve
_MOST_CAPS = 256  # limits remembered between them, of which clients mostly set the same few
_PRIOR_WEIGHT = 2.0  # answers that the prior is worth
# Until answers were seen, they are taken to run on: promising a slot that does not come free costs
# a broken promise, promising none costs a few refusals.
_PRIOR_STRETCH = 4.0
_KEEP = 1.0 - 1.0 / 20_000.0  # an event loses its weight after about 20,000 later ones


class Curve:
    """Survival at every edge, by Kaplan and Meier, and its integral.

    Attributes:
        shares: of answers that are longer than each edge.
        of_new: tokens expected of an answer that has not begun, by its limit, once worked out.
    """

    def __init__(self, shares: Floats, integral: Floats) -> None:
        """See `curves`."""
        self.shares: list[float] = shares.tolist()
        self._integral: list[float] = integral.tolist()
        self.of_new: dict[int, float] = {}

    def at(self, tokens: float) -> tuple[float, float]:
        """Share of answers that are longer than `tokens`, and its integral up to there."""
        index = _bucket(tokens)
        low, high = _EDGES[index], _EDGES[index + 1]
        first, last = self.shares[index], self.shares[index + 1]
        width = min(tokens, high) - low
        alive = first + (last - first) * width / (high - low)
        return alive, self._integral[index] + (first + alive) / 2 * width


def curves(at_risk: Floats, ended: Floats) -> list[Curve]:
    """Of so many answers that reached each bucket, so many ended in it.

    Args:
        at_risk: shape (curves, buckets), as all of these.
        ended: likewise.
    """
    gone = np.divide(ended, at_risk, out=np.zeros_like(ended), where=at_risk > 0.0)
    shares = np.ones((len(ended), len(_EDGES)))
    np.cumprod(1.0 - np.minimum(gone, 1.0), axis=1, out=shares[:, 1:])
    integral = np.zeros_like(shares)
    np.cumsum((shares[:, :-1] + shares[:, 1:]) / 2 * _WIDTHS, axis=1, out=integral[:, 1:])
    return [Curve(*each) for each in zip(shares, integral, strict=True)]


class OutputModel:
    """Expected answer length in tokens, given what has been produced and the limit."""

    def __init__(self, default_tokens: int) -> None:
        """Start from answers that end at a constant hazard, with several times this mean."""
        self._weight = 1.0
        self._pending = 0
        # Answers that reached each bucket, and those that ended in it, by prior and bucket: as seen
        # whatever the prior, and those of the priors alone, the cautious one and the likely one.
        # The two tallies are views, so what was seen is changed in place.
        self._seen = np.zeros((2, 1, len(_WIDTHS)))
        self._at_risk, self._ended = self._seen[:, 0]
        priors = (_prior(default_tokens * _PRIOR_STRETCH), _prior(default_tokens))
        self._priors = np.stack(priors, axis=1)
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
        if not produced:
            return self._of_new(self._curve, cap)
        alive, before = self._curve.at(produced)
        further = (self._curve.at(cap)[1] - before) / max(alive, 1e-9)
        return produced + min(max(further, 1.0), cap - produced)

    def likely_total(self, cap: int) -> float:
        """The same of an answer that has not begun, without caution before any were seen."""
        return self._of_new(self._likely, cap)

    def _of_new(self, curve: Curve, cap: int) -> float:
        """Tokens that an answer is expected to end with that has not begun."""
        known = curve.of_new
        if cap not in known:
            if len(known) >= _MOST_CAPS:
                known.clear()
            known[cap] = min(max(curve.at(cap)[1], 1.0), float(cap))
        return known[cap]

    def _rebuild(self) -> None:
        """Recompute survival and its integral at every edge; normalise the weights."""
        self._pending = 0
        scale, self._weight = 1.0 / self._weight, 1.0
        self._seen *= scale
        self._priors *= scale
        self._curve, self._likely = curves(*(self._seen + self._priors))
        self._curve_array = np.array(self._curve.shares)

    def survival_at(self, tokens: Floats) -> Floats:
        """Share of answers that are longer than `tokens`, for an array of any shape."""
        share: Floats = np.interp(tokens, _EDGES_ARRAY, self._curve_array)
        return share


def _bucket(tokens: float) -> int:
    return min(bisect_right(_EDGES, tokens) - 1, len(_EDGES) - 2)


def _prior(mean: float) -> Floats:
    """A few answers that end at a constant hazard: those at risk, those that ended, by bucket."""
    at_risk = _PRIOR_WEIGHT * np.exp(-_EDGES_ARRAY[:-1] / mean)
    return np.stack([at_risk, at_risk * (1.0 - np.exp(-_WIDTHS / mean))])
