"""What a prompt is made of: named stretches of tokens, some of them shared between requests.

A prompt is written here as a list of segments, not as text. Two segments of one name hold the same
tokens, so a shared system prompt, a block of a trace and the history of a conversation are all
told by name: the load client makes text of them, the simulator keeps them in a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from forebay.workload.lengths import Ints, Lengths, shares


@dataclass(frozen=True, slots=True)
class Segment:
    """`tokens` (1 or more) of prompt, the same wherever the name is the same.

    Of two segments of one name the shorter is the longer one's beginning. `shared` says that the
    name comes up in many requests: who makes text of it does well to keep it.
    """

    name: str
    tokens: int
    shared: bool = False


def total_tokens(segments: Sequence[Segment]) -> int:
    """Length of a prompt, in tokens."""
    return sum(segment.tokens for segment in segments)


def shared_tokens(one: Sequence[Segment], other: Sequence[Segment]) -> int:
    """Length of the longest common beginning of two prompts, in tokens."""
    common = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine.name != theirs.name:
            break
        common += min(mine.tokens, theirs.tokens)
        if mine.tokens != theirs.tokens:
            break
    return common


@dataclass(frozen=True)
class PrefixPool:
    """Shared beginnings (system prompts, tools, few-shot examples) of unequal popularity.

    Attributes:
        name: stands in the segments' names; pools of one name share their prefixes.
        count: how many there are.
        lengths: law of their lengths, tokens; each prefix has one length, drawn once.
        zipf: exponent: the k-th most popular is asked for with weight k^-zipf; 0 makes all alike.
    """

    name: str
    count: int
    lengths: Lengths
    zipf: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1 or not self.zipf >= 0:
            raise ValueError(f"a pool needs 1 prefix or more and zipf >= 0, not {self}")

    def segments(self, rng: np.random.Generator) -> list[Segment]:
        """Its prefixes, the most popular first."""
        tokens = self.lengths.draw(self.count, rng).tolist()
        return [
            Segment(f"{self.name}/prefix/{rank}", size, shared=True)
            for rank, size in enumerate(tokens)
        ]

    def draw(self, count: int, rng: np.random.Generator) -> Ints:
        """Ranks (from 0) of the prefixes that `count` requests begin with."""
        return rng.choice(self.count, count, p=self._popularity)

    @cached_property
    def _popularity(self) -> np.ndarray:
        return shares((np.arange(1, self.count + 1, dtype=np.float64) ** -self.zipf).tolist())
