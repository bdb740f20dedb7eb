"""How long prompts and answers are, in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Lengths(Protocol):
    """A law of lengths, in tokens of 1 or more."""

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` lengths."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    tokens: int

    def __post_init__(self) -> None:
        _check(self.tokens)

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` times the same."""
        return np.full(count, self.tokens, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length from `least` to `most` is as likely as another."""

    least: int
    most: int

    def __post_init__(self) -> None:
        _check(self.least, self.most)

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` lengths, both ends included."""
        return rng.integers(self.least, self.most + 1, count)


@dataclass(frozen=True, slots=True)
class Lognormal:
    """A lognormal of a median and a 99th percentile, cut to [`least`, `most`].

    Two quantiles say more to who writes a workload than mu and sigma do; the median is exp(mu),
    and sigma follows from the 99th percentile, which lies 2.326 sigma above in the logarithm.
    """

    p50: float
    p99: float
    least: int = 1
    most: int = 1_000_000

    def __post_init__(self) -> None:
        _check(self.least, self.most)
        if not 0 < self.p50 <= self.p99:
            raise ValueError(f"a lognormal needs 0 < p50 <= p99, not {self.p50} and {self.p99}")

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` lengths, rounded."""
        sigma = np.log(self.p99 / self.p50) / _Z99
        drawn = np.rint(rng.lognormal(np.log(self.p50), sigma, count))
        return np.clip(drawn, self.least, self.most).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Lengths between rising edges (tokens), each bin with a weight; uniform within a bin.

    Bin i holds the lengths from edges[i] to edges[i + 1] - 1.
    """

    edges: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(*self.edges)
        if len(self.edges) != len(self.weights) + 1 or len(set(self.edges)) != len(self.edges):
            raise ValueError("a histogram has one edge more than weights, and its edges rise")
        shares(self.weights)

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """`count` lengths."""
        edges = np.asarray(self.edges)
        bins = rng.choice(len(self.weights), count, p=shares(self.weights))
        return rng.integers(edges[bins], edges[bins + 1])


@dataclass(frozen=True, slots=True)
class Independent:
    """Prompts and answers whose lengths have nothing to do with each other."""

    prompt: Lengths
    output: Lengths

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """`count` pairs of (prompt, output) lengths."""
        return self.prompt.draw(count, rng), self.output.draw(count, rng)


@dataclass(frozen=True, slots=True)
class Joint:
    """Pairs as they were observed, drawn together: long prompts keep their kind of answer."""

    pairs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("joint lengths need at least one pair")

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """`count` pairs of (prompt, output) lengths."""
        chosen = np.asarray(self.pairs, dtype=np.int64)[rng.integers(0, len(self.pairs), count)]
        return chosen[:, 0], chosen[:, 1]


_Z99 = 2.3263478740408408  # standard normal quantile of 0.99


def _check(*tokens: int) -> None:
    if min(tokens) < 1 or list(tokens) != sorted(tokens):
        raise ValueError(f"lengths are 1 token or more and rise, not {list(tokens)}")


def shares(weights: Sequence[float]) -> NDArray[np.float64]:
    """Weights (0 or more, not all 0) as shares that add up to 1.

    Raises:
        ValueError: they are not such weights.
    """
    array = np.asarray(weights, dtype=np.float64)
    if len(array) == 0 or array.min() < 0 or not array.sum() > 0:
        raise ValueError("weights are 0 or more, and not all 0")
    parts: NDArray[np.float64] = array / array.sum()
    return parts
