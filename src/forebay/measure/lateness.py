"""How late an emulation ran behind the engine that it plays."""

from __future__ import annotations

from collections import deque

from forebay.measure.percentiles import percentile

RECENT = 2048  # steps
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
        """99th percentile in steps; None before the first."""
        return percentile(self._recent, 99)
