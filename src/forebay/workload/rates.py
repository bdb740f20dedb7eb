"""Rates of arrival over time: pieces laid end to end, each with an exact integral.

A piece knows its *operational time*, the integral of its rate: the number of arrivals expected by
second t. Arrivals are drawn in operational time, where the rate is 1, and mapped back (the time
change of a point process; Cinlar, Introduction to Stochastic Processes, 1975, section 4.7), so any
law of gaps works with any shape of rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
_BISECTIONS = 60  # halvings until a double does not change any more


class Piece(Protocol):
    """A rate over `seconds` (above 0), counted from the piece's own start."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""

    def rate(self, t: Floats) -> Floats:
        """Requests/s at each `t` (seconds)."""

    def expected(self, t: Floats) -> Floats:
        """Arrivals expected by each `t` (seconds): the integral of `rate`."""

    def when(self, count: Floats) -> Floats:
        """The inverse of `expected`: seconds at which each `count` is reached."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A constant rate, in requests/s (0 or more)."""

    level: float
    seconds: float

    def __post_init__(self) -> None:
        _check(self.seconds, self.level)

    def rate(self, t: Floats) -> Floats:
        """Requests/s at each `t`."""
        return np.full_like(t, self.level)

    def expected(self, t: Floats) -> Floats:
        """Arrivals expected by each `t`."""
        return self.level * t

    def when(self, count: Floats) -> Floats:
        """Seconds at which each `count` is reached."""
        return count / self.level


@dataclass(frozen=True, slots=True)
class LinearRamp:
    """From one rate to another along a straight line, in requests/s."""

    first: float
    last: float
    seconds: float

    def __post_init__(self) -> None:
        _check(self.seconds, self.first, self.last)

    def rate(self, t: Floats) -> Floats:
        """Requests/s at each `t`."""
        return self.first + self._slope * t

    def expected(self, t: Floats) -> Floats:
        """Arrivals expected by each `t`."""
        return (self.first + self._slope * t / 2) * t

    def when(self, count: Floats) -> Floats:
        """Seconds at which each `count` is reached."""
        # The root of a t^2 / 2 + b t = count in the form that also holds for a slope of 0.
        root = np.sqrt(np.maximum(self.first**2 + 2 * self._slope * count, 0.0))
        times: Floats = 2 * count / np.maximum(self.first + root, np.finfo(float).tiny)
        return times

    @property
    def _slope(self) -> float:
        return (self.last - self.first) / self.seconds


@dataclass(frozen=True, slots=True)
class ExponentialRamp:
    """From one rate to another by a constant factor per second, in requests/s (above 0)."""

    first: float
    last: float
    seconds: float

    def __post_init__(self) -> None:
        _check(self.seconds, self.first, self.last)
        if self.first <= 0 or self.last <= 0:
            raise ValueError("an exponential ramp goes between rates above 0")

    def rate(self, t: Floats) -> Floats:
        """Requests/s at each `t`."""
        return self.first * np.exp(self._growth * t)

    def expected(self, t: Floats) -> Floats:
        """Arrivals expected by each `t`."""
        if self._growth == 0.0:
            return self.first * t
        return self.first / self._growth * np.expm1(self._growth * t)

    def when(self, count: Floats) -> Floats:
        """Seconds at which each `count` is reached."""
        if self._growth == 0.0:
            return count / self.first
        return np.log1p(self._growth * count / self.first) / self._growth

    @property
    def _growth(self) -> float:
        return float(np.log(self.last / self.first)) / self.seconds


@dataclass(frozen=True, slots=True)
class Sine:
    """A mean rate that swings by an amplitude (at most the mean) over a period (seconds).

    It starts at the mean and rises.
    """

    mean: float
    amplitude: float
    period: float
    seconds: float

    def __post_init__(self) -> None:
        _check(self.seconds, self.mean, self.amplitude)
        if self.amplitude > self.mean or not self.period > 0:
            raise ValueError("a sine needs a period above 0 and an amplitude within its mean")

    def rate(self, t: Floats) -> Floats:
        """Requests/s at each `t`."""
        return self.mean + self.amplitude * np.sin(self._pulse * t)

    def expected(self, t: Floats) -> Floats:
        """Arrivals expected by each `t`."""
        return self.mean * t + self.amplitude / self._pulse * (1.0 - np.cos(self._pulse * t))

    def when(self, count: Floats) -> Floats:
        """Seconds at which each `count` is reached."""
        low, high = np.zeros_like(count), np.full_like(count, self.seconds)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            before = self.expected(middle) < count
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        return high

    @property
    def _pulse(self) -> float:
        return 2 * np.pi / self.period


@dataclass(frozen=True, slots=True)
class RateCurve:
    """Pieces in turn."""

    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        if not self.pieces:
            raise ValueError("a rate needs at least one stage")

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return sum(piece.seconds for piece in self.pieces)

    @property
    def requests(self) -> float:
        """Arrivals expected over all of it."""
        return float(self._counts()[-1])

    def rate(self, t: Floats) -> Floats:
        """Requests/s at each `t` (seconds from the start, below `seconds`)."""
        starts = self._starts()
        places = np.clip(np.searchsorted(starts, t, side="right") - 1, 0, len(self.pieces) - 1)
        rates = np.zeros_like(t)
        for index, piece in enumerate(self.pieces):
            here = places == index
            rates[here] = piece.rate(t[here] - starts[index])
        return rates

    def when(self, count: Floats) -> Floats:
        """Seconds from the start at which each `count` (0 to `requests`) is reached."""
        starts, counts = self._starts(), self._counts()
        places = np.clip(np.searchsorted(counts, count, side="right") - 1, 0, len(self.pieces) - 1)
        times = np.empty_like(count)
        for index, piece in enumerate(self.pieces):
            here = places == index
            if here.any():
                within = piece.when(count[here] - counts[index])
                times[here] = starts[index] + np.minimum(within, piece.seconds)
        return times

    def scaled(self, factor: float) -> RateCurve:
        """The same shape over the same time at `factor` (above 0) times the rate."""
        if not factor > 0:
            raise ValueError(f"a rate is scaled by a factor above 0, not {factor}")
        return RateCurve(tuple(_Scaled(piece, factor) for piece in self.pieces))

    def _starts(self) -> Floats:
        return np.array([0.0, *accumulate(piece.seconds for piece in self.pieces)][:-1])

    def _counts(self) -> Floats:
        ends = (float(piece.expected(np.array(piece.seconds))) for piece in self.pieces)
        return np.array([0.0, *accumulate(ends)])


@dataclass(frozen=True, slots=True)
class _Scaled:
    """A piece at a multiple of its rate."""

    piece: Piece
    factor: float

    @property
    def seconds(self) -> float:
        return self.piece.seconds

    def rate(self, t: Floats) -> Floats:
        return self.factor * self.piece.rate(t)

    def expected(self, t: Floats) -> Floats:
        return self.factor * self.piece.expected(t)

    def when(self, count: Floats) -> Floats:
        return self.piece.when(count / self.factor)


def spike(base: float, peak: float, seconds: float, *, start: float, length: float) -> list[Piece]:
    """A base rate with `length` seconds of `peak` from second `start` on, `seconds` in all.

    Raises:
        ValueError: the spike does not lie inside.
    """
    after = seconds - start - length
    if abs(after) < _ROUNDING * seconds:  # 3.3 - 1.1 - 2.2 is not 0
        after = 0.0
    if start < 0 or not length > 0 or after < 0:
        raise ValueError("the spike must lie inside its stage")
    parts = [(base, start), (peak, length), (base, after)]
    return [Hold(level, duration) for level, duration in parts if duration > 0]


def series(times: Sequence[float], rates: Sequence[float]) -> list[Piece]:
    """Rates that hold from each time (seconds, rising) to the next; the last time ends it.

    Raises:
        ValueError: fewer than two times, times that do not rise, or a rate below 0.
    """
    if len(times) != len(rates) or len(times) < 2:
        raise ValueError("a series needs two or more times with a rate each")
    if any(later <= earlier for earlier, later in pairwise(times)):
        raise ValueError("the times of a series must rise")
    gaps = np.diff(np.asarray(times, dtype=np.float64)).tolist()
    return [Hold(rate, gap) for rate, gap in zip(rates, gaps, strict=False)]


def _check(seconds: float, *rates: float) -> None:
    if not seconds > 0:
        raise ValueError(f"a stage lasts longer than {seconds} s")
    if not all(rate >= 0 for rate in rates):
        raise ValueError(f"a rate is 0 or more, not {min(rates)}")
