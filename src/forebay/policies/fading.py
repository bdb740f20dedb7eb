"""Rates learned from what was observed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DecayedRate:
    """Amount per second over the recent past, where "recent" is counted in observed seconds.

    An observation loses half its weight for every `half_life_s` seconds that were observed after
    it. Time that was not observed (an idle engine) does not age what was learned.
    """

    half_life_s: float
    amount: float = 0.0
    seconds: float = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """Account `amount` to `seconds` (> 0) of observed time."""
        keep = 0.5 ** (seconds / self.half_life_s)
        self.amount = self.amount * keep + amount
        self.seconds = self.seconds * keep + seconds

    def seed(self, rate: float, seconds: float) -> None:
        """Replace what was learned by `rate`, believed as if seen for `seconds`."""
        self.amount, self.seconds = rate * seconds, seconds

    @property
    def known(self) -> bool:
        """Whether anything was observed yet."""
        return self.seconds > 0.0 and self.amount > 0.0

    @property
    def rate(self) -> float:
        """Amount per second; 0 before anything was observed."""
        return self.amount / self.seconds if self.seconds > 0.0 else 0.0
