"""Laws of time: how long until the first token, and from each token to the next.

Every request draws for itself, from a generator keyed by (seed, number of the request). What one
request gets does not depend on how many came before it, on when, or on what the others drew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from pydantic_core import PydanticCustomError

from forebay.spec.files import format_seconds, parse_seconds

_Z99 = 2.3263478740408408  # standard normal quantile of 0.99


class Law(Protocol):
    """A law of durations, in seconds."""

    @property
    def mean_s(self) -> float:
        """Seconds, on average."""

    def draw(self, count: int, rng: np.random.Generator) -> list[float]:
        """`count` independent durations, seconds."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same (seconds, 0 or more)."""

    seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise ValueError(f"a fixed time is 0 seconds or more, not {self.seconds}")

    def __str__(self) -> str:
        return format_seconds(self.seconds)

    @property
    def mean_s(self) -> float:
        """The duration itself."""
        return self.seconds

    def draw(self, count: int, rng: np.random.Generator) -> list[float]:
        """`count` times the same; nothing is drawn."""
        return [self.seconds] * count


@dataclass(frozen=True, slots=True)
class Lognormal:
    """A lognormal by its median and its 99th percentile (seconds, above 0)."""

    p50: float
    p99: float

    def __post_init__(self) -> None:
        if not 0 < self.p50 <= self.p99 < math.inf:
            raise ValueError(f"a lognormal needs 0 < p50 <= p99, not {self.p50} and {self.p99}")

    def __str__(self) -> str:
        return f"lognormal:{format_seconds(self.p50)}/{format_seconds(self.p99)}"

    @property
    def mean_s(self) -> float:
        """exp(mu + sigma^2 / 2)."""
        return self.p50 * math.exp(self._sigma**2 / 2)

    def draw(self, count: int, rng: np.random.Generator) -> list[float]:
        """`count` independent durations."""
        drawn: list[float] = rng.lognormal(math.log(self.p50), self._sigma, count).tolist()
        return drawn

    @property
    def _sigma(self) -> float:
        return math.log(self.p99 / self.p50) / _Z99


def request_rng(seed: int, number: int) -> np.random.Generator:
    """The generator of one request: a counter-based one, whose key is the pair itself."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, number], dtype=np.uint64)))


def parse_law(words: str) -> Law:
    """Reads ``200ms`` or ``lognormal:200ms/800ms`` (median / 99th percentile).

    Raises:
        ValueError: it is neither.
    """
    kind, colon, quantiles = words.strip().partition(":")
    if not colon:
        return Fixed(seconds(words))
    p50, slash, p99 = quantiles.partition("/")
    if kind != "lognormal" or not slash:
        raise ValueError(f"{words!r} is no law of time; write 200ms or lognormal:200ms/800ms")
    return Lognormal(seconds(p50), seconds(p99))


def seconds(words: str) -> float:
    """A duration with its unit, in seconds.

    Raises:
        ValueError: it is none; the message says what to write.
    """
    try:
        return parse_seconds(words)
    except PydanticCustomError as error:
        hint = (error.context or {}).get("hint")
        raise ValueError(f"{error.message()}; {hint}" if hint else error.message()) from None
