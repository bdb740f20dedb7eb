"""Sequence slots that flows are owed: what keeps an engine from being full of somebody else.

The engine's queue is fair, but a running sequence keeps its slot to its end: a tenant that fills
every slot with long answers makes all others wait for those, however small their tags. So a flow
that asks for more than its part of the slots is held to what the others leave: what those who ask
for less need, with room for chance, and by weight among those who ask for too much.

Who asks for less than its part is never refused here, and nobody who asks alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, sqrt

# Weights of some flows, by their places, if only these are active: a class's weight is divided
# among those of its flows that want more, or many small ones would take from a large one's part.
Weigh = Callable[[Sequence[int]], Sequence[float]]

_SPREAD = 2.0  # standard deviations of a Poisson number of requests at once, above its mean


def greedy(wanted: Sequence[float], weigh: Weigh, slots: float) -> list[int]:
    """Which flows ask for more than their part: the weighted max-min share of the slots."""
    found, left = list(range(len(wanted))), slots
    while found:
        weights = weigh(found)
        each = left / sum(weights)
        more = [i for i, weight in zip(found, weights, strict=True) if wanted[i] <= each * weight]
        if not more:
            break
        left -= sum(wanted[i] for i in more)
        content = set(more)
        found = [i for i in found if i not in content]
    return found


def most_held(wanted: Sequence[float], weigh: Weigh, slots: float) -> list[float]:
    """Sequences that each flow may have at once, queued or running; infinity where none is owed.

    Args:
        wanted: sequences at once, on average, by each flow that has been asking lately.
        weigh: says their weights.
        slots: of the engine.
    """
    most = [inf] * len(wanted)
    held_back = greedy(wanted, weigh, slots) if len(wanted) > 1 else []
    if not held_back:
        return most
    everybody = weigh(range(len(wanted)))
    fair = slots * sum(everybody[i] for i in held_back) / sum(everybody)
    weights = weigh(held_back)
    each = max(slots - _reserve(wanted, held_back), fair) / sum(weights)
    for i, weight in zip(held_back, weights, strict=True):
        most[i] = each * weight
    return most


def _reserve(wanted: Sequence[float], held_back: Sequence[int]) -> float:
    """What those need who ask for less than their part."""
    others = set(range(len(wanted))).difference(held_back)
    if not others:
        return 0.0
    modest = sum(wanted[i] for i in others)
    return modest + _SPREAD * sqrt(modest) + 1.0
