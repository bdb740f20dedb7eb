"""Whether a queue still grew when the run ended: then its rate is not sustained.

A rate 3 % above what a server sustains meets a 1 s objective for half a minute, while its queue
grows all the time. So a rise of TTFT through the run counts, before it reaches the objective.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

from forebay.measure.percentiles import percentile
from forebay.measure.records import RequestRecord

_WINDOWS, _LEAST_WINDOWS = 10, 6  # of five, no order is as unlikely as `_CERTAIN`
_USUAL = 10  # requests in a window,
_FEWEST = 5  # and at least, for a median worth the name
ENOUGH = _USUAL * _LEAST_WINDOWS  # requests that tell of a trend
_CERTAIN = 0.01  # chance of a false alarm by the trend alone
_VISIBLE = 0.25  # share of the objective by which TTFT must have risen


@dataclass(frozen=True, slots=True)
class Trend:
    """How the median TTFT moved through a run.

    Attributes:
        growing: it rose, surely and visibly.
        rise_s: from the first third to the last, seconds; None when too few requests tell.
        chance: of a trend so clear without a cause.
    """

    growing: bool
    rise_s: float | None
    chance: float


def ttft_trend(
    records: Sequence[RequestRecord], start_s: float, end_s: float, slo_ttft_s: float
) -> Trend:
    """Mann-Kendall trend of the median TTFT over six to ten windows between two seconds of the run.

    The test asks for no law of latencies, only for their order (Kendall, Rank Correlation Methods,
    1975). A request without a first token counts as an infinite TTFT.
    """
    kept = [r for r in records if start_s <= r.intended_s < end_s and r.outcome != "cancelled"]
    windows = min(_WINDOWS, len(kept) // _USUAL)
    groups: list[list[float]] = [[] for _ in range(windows)]
    for record in kept:
        place = math.floor((record.intended_s - start_s) / (end_s - start_s) * windows)
        if place < windows:
            groups[place].append(math.inf if record.ttft is None else record.ttft)
    medians = [percentile(group, 50) or 0.0 for group in groups if len(group) >= _FEWEST]
    if len(medians) < _LEAST_WINDOWS:
        return Trend(False, None, 1.0)
    third = max(1, len(medians) // 3)
    first, last = (percentile(part, 50) or 0.0 for part in (medians[:third], medians[-third:]))
    rise = last - first if math.isfinite(last) else math.inf
    chance = mann_kendall(medians)
    return Trend(chance < _CERTAIN and rise > _VISIBLE * slo_ttft_s, rise, chance)


def mann_kendall(values: Sequence[float]) -> float:
    """Chance that values without a trend rise so steadily: one-sided, by the normal law."""
    score = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    tied = sum(_spread(count) for count in Counter(values).values())
    variance = _spread(len(values)) - tied
    if variance == 0:
        return 1.0
    return 1.0 - NormalDist().cdf((score - 1) / math.sqrt(variance))


def _spread(n: int) -> float:
    """Variance of the score of n values in random order; ties take their own part away."""
    return n * (n - 1) * (2 * n + 5) / 18
