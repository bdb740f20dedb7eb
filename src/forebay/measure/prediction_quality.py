"""How good predicted times to first token were."""

from __future__ import annotations

from collections import deque
from statistics import median

RECENT = 1024  # predictions that the figures look back on


class PredictionQuality:
    """The last predictions beside what came true, both in seconds."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=RECENT)

    def add(self, predicted_s: float, actual_s: float) -> None:
        """A first token came `actual_s` after its admission."""
        self._recent.append((predicted_s, actual_s))

    @property
    def error(self) -> float | None:
        """Median of |predicted - actual| / actual; None before the first."""
        if not self._recent:
            return None
        return median(abs(p - a) / a for p, a in self._recent if a > 0)

    @property
    def bias(self) -> float | None:
        """Mean prediction over mean truth, less 1: above 0 it was too cautious; None as above."""
        truth = sum(actual for _, actual in self._recent)
        return sum(p for p, _ in self._recent) / truth - 1 if truth > 0 else None
