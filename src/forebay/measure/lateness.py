"""How late an emulation ran behind the engine that it plays."""

from __future__ import annotations

from collections import deque

from forebay.measure.percentiles import percentile

RECENT = 2048  # steps
_FEWEST = 100  # of which one is a percentile
MOST_LATE = 0.05  # of a step, p99: beyond it what was measured is this machine, not the engine


class StepLateness:
    """Lateness of the last steps, each relative to the length that its step should have had."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, late_s: float, step_s: float) -> None:
        """A step of `step_s` seconds whose results came out `late_s` seconds after its end."""
        self._recent.append(max(late_s, 0.0) / step_s)

    @property
    def p99(self) -> float | None:
        """99th percentile in steps; None before the first.

        One in a hundred may be later. Of fewer steps than that, those to come count as in time:
        else the latest alone, in the midst of an engine's start, would speak for all.
        """
        to_come = max(_FEWEST - len(self._recent), 0)
        return percentile([*self._recent, *[0.0] * to_come], 99) if self._recent else None
