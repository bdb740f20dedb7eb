"""How late an emulation ran behind the engine that it plays."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate

from forebay.measure.percentiles import percentile

RECENT = 2048  # steps
_FEWEST = 100  # of which one is a percentile
MOST_LATE = 0.05  # of a step, p99: beyond it what was measured is this machine, not the engine
_EDGES = [0.001 * 1.1**k for k in range(97)]  # of a step, up to some ten of them


class StepLateness:
    """Lateness of steps, each relative to the length that its step should have had."""

    def __init__(self) -> None:
        """No step was made."""
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._counts = [0] * (len(_EDGES) + 1)  # of all steps, by the edge that they are below

    def add(self, late_s: float, step_s: float) -> None:
        """A step of `step_s` seconds whose results came out `late_s` seconds after its end."""
        late = max(late_s, 0.0) / step_s
        self._recent.append(late)
        self._counts[bisect_left(_EDGES, late)] += 1

    @property
    def p99_so_far(self) -> float | None:
        """99th percentile of all steps so far, in steps, to a tenth; None before the first."""
        if not self._recent:
            return None
        most = 0.99 * sum(self._counts)
        place = next(k for k, count in enumerate(accumulate(self._counts)) if count >= most)
        return _EDGES[min(place, len(_EDGES) - 1)]

    @property
    def p99(self) -> float | None:
        """99th percentile of the last steps, in steps; None before the first.

        One in a hundred may be later. Of fewer steps than that, those to come count as in time:
        else the latest alone, in the midst of an engine's start, would speak for all.
        """
        to_come = max(_FEWEST - len(self._recent), 0)
        return percentile([*self._recent, *[0.0] * to_come], 99) if self._recent else None
