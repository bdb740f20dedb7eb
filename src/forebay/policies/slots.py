"""Sequence slots that flows are owed: what keeps an engine from being full of somebody else.

The engine's queue is fair, but a running sequence keeps its slot to its end: a tenant that fills
every slot with long answers makes all others wait for those, however small their tags. So a flow
that asks for more than its part of the slots is held to what the others leave: what those who ask
for less need, with room for chance, and by weight among those who ask for too much.

Who asks for less than its part is never refused here, and nobody who asks alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from typing import NamedTuple

_SPREAD = 2.0  # standard deviations of a Poisson number of requests at once, above its mean


class Claim(NamedTuple):
    """What a flow asks for. A tuple, since each decision makes one for every active flow.

    Attributes:
        weight: its share, relative to the others'.
        wanted: sequences at once, on average.
    """

    weight: float
    wanted: float


def content(claims: Sequence[Claim], slots: float) -> list[bool]:
    """Which flows ask for no more than their part: the weighted max-min share of the slots."""
    found = [False] * len(claims)
    while True:
        left = slots - sum(c.wanted for c, ok in zip(claims, found, strict=True) if ok)
        weight = sum(c.weight for c, ok in zip(claims, found, strict=True) if not ok)
        more = [
            i
            for i, claim in enumerate(claims)
            if not found[i] and claim.wanted * weight <= left * claim.weight
        ]
        if not more:
            return found
        for i in more:
            found[i] = True


def most_held(claims: Sequence[Claim], slots: float) -> list[float]:
    """Sequences that each flow may have at once, queued or running; infinity where none is owed.

    Args:
        claims: of the flows that have been asking lately.
        slots: of the engine.
    """
    is_content = content(claims, slots)
    if all(is_content) or len(claims) < 2:
        return [inf] * len(claims)
    modest = sum(c.wanted for c, ok in zip(claims, is_content, strict=True) if ok)
    reserve = modest + _SPREAD * sqrt(modest) + 1.0 if any(is_content) else 0.0
    greedy = sum(c.weight for c, ok in zip(claims, is_content, strict=True) if not ok)
    fair = slots * greedy / sum(claim.weight for claim in claims)
    each = max(slots - reserve, fair) / greedy
    return [inf if ok else each * c.weight for c, ok in zip(claims, is_content, strict=True)]
