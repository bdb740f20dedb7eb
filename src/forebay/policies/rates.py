"""Quantities learned from what was observed: decayed rates and a tracked quantile."""

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


@dataclass(slots=True)
class TrackedQuantile:
    """A running upper quantile of a drifting quantity, by stochastic approximation.

    Each observation above the estimate raises it by `step * quantile`, each below lowers it by
    `step * (1 - quantile)`: in equilibrium the share `quantile` lies below (Robbins and Monro,
    1951). With no observations it halves every `half_life_s`, so that one bad minute is forgotten
    even when it led to nothing being admitted.
    """

    quantile: float
    step: float
    ceiling: float
    half_life_s: float
    value: float = 0.0
    observed_at: float | None = None

    def observe(self, sample: float, now: float) -> None:
        """Move the estimate towards `sample`, seen at `now` seconds."""
        base = self.at(now)
        gain = self.quantile if sample > base else self.quantile - 1.0
        self.value = min(max(base + self.step * gain, 0.0), self.ceiling)
        self.observed_at = now

    def at(self, now: float) -> float:
        """The estimate at `now`, decayed since the last observation."""
        if self.observed_at is None:
            return self.value
        return float(self.value * 0.5 ** (max(now - self.observed_at, 0.0) / self.half_life_s))
