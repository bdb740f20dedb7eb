"""Times that a log rounded to whole steps, spread out again.

A log in whole seconds shows twenty requests at once and then none for a second, which reads as a
burst that never was. Within a step nothing is known, so arrivals are put there at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from forebay.workload.traces import Row

_TIES = 0.3  # share of arrivals at the same moment as another from which a clock is called coarse
_EXACT = 1e-6  # s; finer than any log


def spread_out(rows: Sequence[Row], rng: np.random.Generator) -> tuple[list[Row], float]:
    """The rows in order of time from second 0, and the step (seconds) that their times had.

    Where times are not coarse, the rows as they are and a step of 0.
    """
    step = time_step([row.at_s for row in rows])
    if not step:
        return list(rows), 0.0
    times = np.array([row.at_s for row in rows]) + rng.uniform(0.0, step, len(rows))
    order = np.argsort(times)
    first = float(times[order[0]])
    return [replace(rows[i], at_s=float(times[i]) - first) for i in order.tolist()], step


def time_step(times: Sequence[float]) -> float:
    """The step of coarse times (in order, seconds); 0 where they are not coarse."""
    gaps = np.diff(times)
    apart = gaps[gaps > _EXACT]
    if not len(apart) or np.mean(gaps <= _EXACT) < _TIES:
        return 0.0
    step = float(apart.min())
    steps = apart / step
    whole = np.abs(steps - np.rint(steps)) < 0.01
    return step if whole.all() else 0.0
