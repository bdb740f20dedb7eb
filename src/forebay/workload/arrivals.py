"""When requests arrive: a law of gaps, run through a rate curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from forebay.workload.rates import Floats, RateCurve

_SPARE = 64  # gaps drawn beyond the expected number, so that one more draw is rare
_WARM_GAPS = 64.0  # a process with memory is watched from this many mean gaps before second 0


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
    """A clock: every gap alike, the first arrival half a gap after the start."""

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
    the offered load would vary less than the real one does.
    """
    total = curve.requests
    counts = _constant(total) if law.cv == 0.0 else _renewal(total, law, rng)
    return curve.when(counts)


def _constant(total: float) -> Floats:
    return np.arange(0.5, total, 1.0, dtype=np.float64)


def _renewal(total: float, law: Law, rng: np.random.Generator) -> Floats:
    """Points of a renewal process on [0, total), begun long before 0 so that it is stationary."""
    at = -_WARM_GAPS
    pieces: list[Floats] = []
    while at < total:
        points = at + np.cumsum(law.gaps(int(max(total - at, 0.0)) + _SPARE, rng))
        pieces.append(points)
        at = float(points[-1])
    every: Floats = np.concatenate(pieces)
    return every[(every >= 0.0) & (every < total)]
