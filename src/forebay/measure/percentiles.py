"""Exact percentiles, by nearest rank.

Nearest rank, not interpolation: the answer is then always a value that some request experienced,
a small sample cannot report a latency better than its worst member, and +infinity needs no
special case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

# Keeps 0.55 * 100 = 55.00000000000001 from being taken as rank 56.
_ROUNDING = 1e-9


def percentile(values: Iterable[float], q: float) -> float | None:
    """The smallest value that at least ``q`` % of ``values`` do not exceed; None of nothing.

    Raises:
        ValueError: when ``q`` is outside 0-100.
    """
    return percentiles(values, (q,))[0]


def percentiles(values: Iterable[float], qs: Sequence[float]) -> list[float | None]:
    """`percentile` for several ``qs`` with one sort.

    Raises:
        ValueError: when a ``q`` is outside 0-100.
    """
    ordered = sorted(values)
    ranks = [_rank(q, len(ordered)) for q in qs]
    return [ordered[rank] if ordered else None for rank in ranks]


def adjusted_percentile(values: Iterable[float], failures: int, q: float) -> float | None:
    """`percentile` with each of ``failures`` counted as +infinity: no answer is the worst answer.

    Raises:
        ValueError: when ``q`` is outside 0-100 or ``failures`` is negative.
    """
    if failures < 0:
        raise ValueError(f"failures must be 0 or more, not {failures}")
    return percentile([*values, *([math.inf] * failures)], q)


def _rank(q: float, count: int) -> int:
    """Index into ``count`` ordered values."""
    if not 0 <= q <= 100:
        raise ValueError(f"a percentile lies between 0 and 100, not at {q}")
    return max(0, math.ceil(q / 100 * count - _ROUNDING) - 1)
