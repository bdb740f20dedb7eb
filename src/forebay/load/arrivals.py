"""When requests arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Stage:
    """A constant rate (requests/s, 0 or more) held for some seconds (above 0)."""

    rate: float
    seconds: float

    def __post_init__(self) -> None:
        if not (self.rate >= 0 and self.seconds > 0):
            raise ValueError(f"a stage needs a rate >= 0 and seconds > 0, not {self}")


def poisson_arrivals(stages: Sequence[Stage], rng: np.random.Generator) -> NDArray[np.float64]:
    """Ascending arrival times (seconds) of a Poisson process through the stages in turn.

    Each stage draws its count from the Poisson law and places it uniformly, which is the process
    itself: the count is left as random as it is, not scaled to the rate asked for.
    """
    start, pieces = 0.0, [np.empty(0)]
    for stage in stages:
        count = rng.poisson(stage.rate * stage.seconds)
        pieces.append(start + np.sort(rng.uniform(0.0, stage.seconds, count)))
        start += stage.seconds
    return np.concatenate(pieces)
