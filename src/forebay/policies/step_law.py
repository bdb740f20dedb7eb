"""How long a step of the engine takes, by what it computes: a law learned from the steps seen.

    seconds = base + per_sequence x (answers that get a token) + per_token x (prompt tokens)

Least squares with fading memory. The three parts are told apart as soon as steps differ in both
respects, which the warm-up sees to; where the steps seen do not tell them apart, a weak pull
towards "all of it is the base" decides.
"""

from __future__ import annotations

import numpy as np

from forebay.policies.outputs import Floats

_KEEP = 0.5 ** (1 / 4000)  # a step loses half its weight in so many: half a minute and more
_FEW = 20.0  # steps' weight, below which nothing is said
_REFIT = 32  # steps between two fits
_MOST_TIMES = 4.0  # of what the law says: a longer step was a standstill, and counts as that
_STRANGE = 2.0  # times longer or shorter than the law says: the engine is not what it was
_STRANGE_KEEP = 0.5  # of what was learned, at each fit of such steps
_ENOUGH = 256.0  # steps' weight, above which that is done
_PULL = 1e-6  # of the steps' weight, with which the two slopes are held at 0


class StepLaw:
    """Seconds of a step as a linear law, learned."""

    def __init__(self) -> None:
        """Know nothing."""
        # Fading sums of 1, x, y, xx, xy, yy and of s, xs, ys, with x answers, y prompt tokens, s
        # seconds. Plain floats: every step adds to them, and an array of nine costs 20 us.
        self._moments: tuple[float, ...] = (0.0,) * 6
        self._products: tuple[float, ...] = (0.0,) * 3
        self._since_fit = 0
        self._seen_s = self._said_s = 0.0  # since the last fit: what steps took, and should have
        self.base_s = 0.0
        self.per_sequence_s = 0.0
        self.per_token_s = 0.0

    @property
    def known(self) -> bool:
        """Whether enough steps were seen."""
        return self.base_s > 0.0

    def seconds(self, sequences: float, prompt_tokens: float) -> float:
        """Duration of a step with so many answers and prompt tokens; 0 while unknown."""
        return self.base_s + self.per_sequence_s * sequences + self.per_token_s * prompt_tokens

    def add(self, sequences: int, prompt_tokens: float, seconds: float) -> None:
        """A step with so many answers and prompt tokens took so long."""
        if self.known:
            said_s = self.seconds(sequences, prompt_tokens)
            seconds = min(seconds, _MOST_TIMES * said_s)
            self._seen_s += seconds
            self._said_s += said_s
        x, y = sequences, prompt_tokens
        n, at_x, at_y, xx, xy, yy = self._moments
        self._moments = (
            n * _KEEP + 1.0,
            at_x * _KEEP + x,
            at_y * _KEEP + y,
            xx * _KEEP + x * x,
            xy * _KEEP + x * y,
            yy * _KEEP + y * y,
        )
        one, by_x, by_y = self._products
        self._products = (
            one * _KEEP + seconds,
            by_x * _KEEP + x * seconds,
            by_y * _KEEP + y * seconds,
        )
        self._since_fit += 1
        if self._since_fit >= _REFIT and self._moments[0] >= _FEW:
            self._fit()

    def _fit(self) -> None:
        """Solve for the three parts; one that comes out below 0 is taken to be 0."""
        self._since_fit = 0
        self._doubt()
        n, x, y, xx, xy, yy = self._moments
        every: Floats = np.array([[n, x, y], [x, xx, xy], [y, xy, yy]])
        products: Floats = np.array(self._products)
        free = [0, 1, 2]
        found: Floats = np.zeros(3)
        while free:
            moments = every[np.ix_(free, free)]
            pull = np.diag(_PULL * np.diag(moments) * (np.array(free) > 0))
            found = np.zeros(3)
            found[free] = np.linalg.lstsq(moments + pull, products[free], rcond=None)[0]
            worst = min(free, key=lambda index: found[index] * every[index, index])
            if found[worst] >= 0.0:
                break
            free.remove(worst)
        if found[0] > 0.0:
            self.base_s, self.per_sequence_s, self.per_token_s = map(float, found)

    def _doubt(self) -> None:
        """Forget sooner where steps are no longer what the law says.

        Otherwise an engine that has become fast again would be kept from showing it: few answers
        are let in, and few tell little of the time that each takes.
        """
        if self._said_s and self._moments[0] > _ENOUGH:
            times = self._seen_s / self._said_s
            if not 1.0 / _STRANGE < times < _STRANGE:
                self._moments = tuple(_STRANGE_KEEP * one for one in self._moments)
                self._products = tuple(_STRANGE_KEEP * one for one in self._products)
        self._seen_s = self._said_s = 0.0

    def __repr__(self) -> str:
        return (
            f"<StepLaw {1e3 * self.base_s:.2f} ms + {1e6 * self.per_sequence_s:.0f} us per answer "
            f"+ {1e6 * self.per_token_s:.1f} us per prompt token>"
        )
