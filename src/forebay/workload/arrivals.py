"""When requests arrive: a law of gaps, run through a rate curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forebay.workload.rates import Floats, RateCurve

_SPARE = 64  # gaps drawn beyond the expected number, so that one more draw is rare
# A process with memory is begun before second 0. A gamma law forgets how it began as
# exp(-t / cv^2), t in mean gaps (from its Laplace transform's branch point): 1 in 3,000 by 8 cv^2.
_WARM_GAPS = 64.0
_WARM_PER_CV2 = 8.0


class Law(Protocol):
    """A law of gaps between arrivals at a mean rate of 1."""

    @property
    def cv(self) -> float:
        """Coefficient of variation of the gaps: 1 for Poisson, 0 for a clock."""

    def gaps(self, count: int, rng: np.random.Generator) -> Floats:
        """`count` gaps with a mean of 1."""


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent arrivals: exponential gaps, and counts as random as the law has them."""

    @property
    def cv(self) -> float:
        """Always 1."""
        return 1.0

    def gaps(self, count: int, rng: np.random.Generator) -> Floats:
        """Exponential gaps."""
        return rng.exponential(1.0, count)


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gaps of a gamma law: bursts for a cv above 1, regularity below; above 0."""

    cv: float

    def __post_init__(self) -> None:
        if not self.cv > 0:
            raise ValueError(f"a gamma law's cv is above 0, not {self.cv}")

    def gaps(self, count: int, rng: np.random.Generator) -> Floats:
        """Gamma gaps of shape 1/cv^2."""
        return rng.gamma(self.cv**-2, self.cv**2, count)


@dataclass(frozen=True, slots=True)
class Constant:
    """A clock: every gap alike."""

    @property
    def cv(self) -> float:
        """Always 0."""
        return 0.0

    def gaps(self, count: int, rng: np.random.Generator) -> Floats:
        """Ones."""
        return np.ones(count)


def arrivals(curve: RateCurve, law: Law, rng: np.random.Generator) -> Floats:
    """Ascending arrival times, in seconds from the start of the curve.

    The gaps are used as drawn: neither they nor their number are fitted to the rate asked for, or
    the offered load would vary less than the real one does. A process with memory is begun long
    before second 0, at a random place in a gap, so that it is stationary: a clock, too, has its
    first arrival anywhere within the first gap.
    """
    warm = max(_WARM_GAPS, _WARM_PER_CV2 * law.cv**2)
    at, total = -warm - rng.random(), curve.requests
    pieces: list[Floats] = []
    while at < total:
        points = at + np.cumsum(law.gaps(int(max(total - at, 0.0)) + _SPARE, rng))
        pieces.append(points)
        at = float(points[-1])
    every = np.concatenate(pieces)
    return curve.when(every[(every >= 0.0) & (every < total)])
