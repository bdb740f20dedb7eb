"""Where demand is and where it is going, from samples of a noisy rate.

The level is a fading mean, with its standard error: traffic of few large requests is noisier than
its mean tells, and a scaler that follows the noise buys and returns GPUs all day.

The trend is a quintile of the slopes between all pairs of samples, after Sen ("Estimates of the
regression coefficient based on Kendall's tau", JASA 1968), who takes their median: what four of
five pairs exceed. A least-squares line reads a step as a steep ramp that has just begun, and
forecasts far beyond it. Of the pairs beside a step, about half lie on both sides of it, and half of
the others fall by chance, so their lower quintile stays below zero; their quartile would be on the
edge. On a ramp it is some two thirds of the slope, at noise of a few percent: a rise is never
counted on in full.

What lasts, and a fleet must not fall below, is a mean that fades slowly even where growth has to be
quick: a level of a few seconds has a peak in every window, and a fleet would keep a replica for it.
A fading mean lags behind a fall as well. What is still asked for after one is told by a mean that
fades four times as fast as the level: twice as noisy, so it counts only where it is clearly lower.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from math import inf, sqrt

_BINS = 24  # of the window; 276 pairs, some 50 us
_FEWEST_BINS = 8  # below which no trend is said
_LN_2 = 0.6931
_SHARE = 5  # 1 / of the pairs, that may contradict a trend
_STEADY_S = 20.0  # half-life at least, of what lasts
_QUICK = 4.0  # x as fast as the level, with the square root of that x its error


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known of a demand.

    Attributes:
        level: mean of late, in the unit of the samples.
        error: standard error of the level.
        slope: growth per second that is certain; below 0 only for a fall that is.
        age_s: mean age of what the level was taken from.
        lately: mean of the very last, noisier than the level.
        steady: mean of some while, less noisy than the level.
    """

    level: float
    error: float
    slope: float
    age_s: float = 0.0
    lately: float = inf
    steady: float = 0.0

    @property
    def lasting(self) -> float:
        """What is asked for apart from peaks, less what is clearly over already."""
        return min(self.steady, self.lately + sqrt(_QUICK) * self.error)

    def after(self, seconds: float) -> float:
        """Demand to be expected then, from a rise that is certain; a fall is not counted on."""
        return self.level + max(self.slope, 0.0) * (self.age_s + seconds)


@dataclass(frozen=True, slots=True)
class DemandHistory:
    """Samples of one demand, faded and binned.

    Attributes:
        half_life_s: of the level.
        window_s: on which the trend looks back.
        weight, total, squares: fading sums of seconds, demand x seconds, demand^2 x seconds.
        lengths: fading sum of the squares of the samples' lengths, for the error.
        quick_weight, quick_total: as `weight` and `total`, fading four times as fast.
        steady_weight, steady_total: the same, of a half-life of 20 s at least.
        bins: (mean time, mean demand, seconds) of the window, oldest first.
    """

    half_life_s: float
    window_s: float
    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    lengths: float = 0.0
    quick_weight: float = 0.0
    quick_total: float = 0.0
    steady_weight: float = 0.0
    steady_total: float = 0.0
    bins: tuple[tuple[float, float, float], ...] = ()

    def add(self, demand: float, seconds: float, now: float) -> DemandHistory:
        """The history with one more sample: `demand` was the mean over the last `seconds`."""
        keep = 0.5 ** (seconds / self.half_life_s)
        keep_steady = 0.5 ** (seconds / max(self.half_life_s, _STEADY_S))
        return replace(
            self,
            weight=self.weight * keep + seconds,
            total=self.total * keep + demand * seconds,
            squares=self.squares * keep + demand * demand * seconds,
            lengths=self.lengths * keep * keep + seconds * seconds,
            quick_weight=self.quick_weight * keep**_QUICK + seconds,
            quick_total=self.quick_total * keep**_QUICK + demand * seconds,
            steady_weight=self.steady_weight * keep_steady + seconds,
            steady_total=self.steady_total * keep_steady + demand * seconds,
            bins=self._binned(demand, seconds, now),
        )

    def _binned(
        self, demand: float, seconds: float, now: float
    ) -> tuple[tuple[float, float, float], ...]:
        bins = [one for one in self.bins if one[0] > now - self.window_s]
        middle = now - seconds / 2
        if bins and bins[-1][2] + seconds <= self.window_s / _BINS:
            at, mean, length = bins.pop()
            whole = length + seconds
            middle = (at * length + middle * seconds) / whole
            demand = (mean * length + demand * seconds) / whole
            seconds = whole
        return (*bins, (middle, demand, seconds))

    @property
    def forecast(self) -> Forecast:
        """Level, its error, and the trend; all 0 before the first sample."""
        if not self.weight:
            return Forecast(0.0, 0.0, 0.0)
        level = self.total / self.weight
        variance = max(self.squares / self.weight - level * level, 0.0)
        error = sqrt(variance * self.lengths) / self.weight
        lately = self.quick_total / self.quick_weight
        steady = self.steady_total / self.steady_weight
        return Forecast(level, error, self._slope(), self.half_life_s / _LN_2, lately, steady)

    def _slope(self) -> float:
        """The growth that four of five pairs exceed, or the fall that four of five do."""
        if len(self.bins) < _FEWEST_BINS:
            return 0.0
        slopes = sorted(
            (later[1] - earlier[1]) / (later[0] - earlier[0])
            for earlier, later in combinations(self.bins, 2)
        )
        low, high = slopes[len(slopes) // _SHARE], slopes[-1 - len(slopes) // _SHARE]
        return low if low > 0.0 else min(high, 0.0)

    def __repr__(self) -> str:
        found = self.forecast
        return f"<DemandHistory {found.level:.2f} +- {found.error:.2f}, {found.slope:+.4f}/s>"
