"""When two states of the code differ: the rule of `prove.py`.

A figure is measured twice of each state, in turns (A B B A), so that a machine that becomes slower
or faster all the while favours neither. The noise is twice the larger of the two states' own
spreads, most minus least of its repeats, and never less than a stated share of the figure: two
repeats are close together by chance more often than the machine is steady. A difference of the
means that is within the noise is none.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["same", "better", "worse"]


@dataclass(frozen=True)
class Compared:
    """A figure of two states.

    Attributes:
        verdict: of the later state.
        change: its mean over the earlier one's, minus 1; None where that says nothing.
        noise: the difference that is none, as a share of the earlier mean; None likewise.
    """

    verdict: Verdict
    change: float | None = None
    noise: float | None = None


def compared(
    before: Sequence[float], after: Sequence[float], *, at_least: float, more_is_better: bool
) -> Compared:
    """Whether the repeats of the later state are better or worse than those of the earlier one.

    What was infinite (a first token that never came) is worse, or better, than any number. Where
    each state has some of both, nothing is known and they are the same.

    Args:
        before: repeats of the earlier state, at least one.
        after: of the later one, at least one.
        at_least: share of the earlier mean that is taken for noise even if no repeat shows it.
        more_is_better: of this figure.
    """
    endless = [sum(map(math.isinf, repeats)) for repeats in (before, after)]
    if any(endless):
        if endless == [0, len(after)]:
            return Compared("better" if more_is_better else "worse")
        if endless == [len(before), 0]:
            return Compared("worse" if more_is_better else "better")
        return Compared("same")
    mean = statistics.fmean(before)
    noise = max(2 * max(_spread(before), _spread(after)), at_least * abs(mean))
    change = statistics.fmean(after) - mean
    verdict: Verdict = "same"
    if abs(change) > noise:
        verdict = "better" if (change > 0) == more_is_better else "worse"
    return Compared(verdict, change / mean, noise / mean) if mean else Compared(verdict)


def _spread(repeats: Sequence[float]) -> float:
    return max(repeats) - min(repeats)
