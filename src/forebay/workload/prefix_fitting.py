"""Shared beginnings of recorded prompts: how many there are, how long, how popular.

Requests are grouped by the first block of their prompts. A group of two or more shares a prefix:
the blocks that the greater part of it has in common. What single conversations share further on is
not a prefix of this kind and is lost; `fit_quality` says how much that is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forebay.workload.length_fitting import fit_lengths, histogram
from forebay.workload.lengths import Fixed, Ints, Lengths
from forebay.workload.rates import Floats
from forebay.workload.traces import Row

_MANY = 30  # prefixes from which on their lengths are a law; below, their mean
_STEEPEST = 5.0  # Zipf exponent; 97 % of the requests have the first prefix
_BISECTIONS = 40  # to 1e-11


@dataclass(frozen=True, slots=True, eq=False)
class PrefixStatistics:
    """What rows share.

    Attributes:
        tokens: of each row's shared prefix; 0 where it has none.
        counts: requests of each prefix, the most popular first.
    """

    tokens: Ints
    counts: tuple[int, ...]

    @property
    def zipf(self) -> float:
        """Exponent of the popularity, by maximum likelihood."""
        return zipf_exponent(self.counts)

    def lengths(self, rng: np.random.Generator) -> Lengths:
        """Law of the prefixes' lengths, each weighted by its requests: a popular one that is long
        counts for what it saves, though the law does not know which is popular.
        """
        used = self.tokens[self.tokens > 0]
        if len(self.counts) < _MANY:
            return Fixed(max(1, round(float(used.mean()))))
        return fit_lengths(used, rng) or histogram(used)


def shared_prefixes(rows: Sequence[Row]) -> PrefixStatistics:
    """The prefixes that two or more of the rows begin with."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        if row.blocks:
            groups[row.blocks[0]].append(place)
    tokens, counts = np.zeros(len(rows), dtype=np.int64), []
    for places in groups.values():
        if len(places) > 1:
            counts.append(len(places))
            tokens[places] = _common_tokens([rows[place] for place in places])
    return PrefixStatistics(tokens, tuple(sorted(counts, reverse=True)))


def zipf_exponent(counts: Sequence[int]) -> float:
    """The s for which weights k^-s make counts by rank (falling, 1 or more each) most likely.

    The likelihood's slope falls in s: the root is found by halving. 0 where all are alike.
    """
    ranks: Floats = np.log(np.arange(1, len(counts) + 1, dtype=np.float64))
    seen = float(np.dot(counts, ranks)) / sum(counts)
    low, high = 0.0, _STEEPEST
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        weights = np.exp(-middle * ranks)
        expected = float(np.dot(weights, ranks) / weights.sum())
        low, high = (middle, high) if expected > seen else (low, middle)
    return round((low + high) / 2, 3)


def _common_tokens(group: Sequence[Row]) -> int:
    """Length of what the greater part of a group begins with; whole blocks."""
    depth, same = 1, list(group)
    while nexts := Counter(row.blocks[depth] for row in same if len(row.blocks) > depth):
        name, count = nexts.most_common(1)[0]
        if 2 * count <= len(group):
            break
        same = [row for row in same if len(row.blocks) > depth and row.blocks[depth] == name]
        depth += 1
    return depth * same[0].block_tokens
