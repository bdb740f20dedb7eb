"""The law of the gaps between recorded arrivals, once the rate's own changes are taken out."""

from __future__ import annotations

import numpy as np

from forebay.workload.arrivals import Constant, Gamma, Law, Poisson
from forebay.workload.rate_fitting import fit_rate, local_dispersion, operational
from forebay.workload.rates import Floats, RateCurve

_CLOCK = 0.05  # below this CV, a clock with a little jitter
_NEAR_POISSON = 0.05  # a CV so close to 1 changes no queue that one could measure
_LEAST_CV = 0.001


def fit_arrivals(times: Floats, seconds: float) -> tuple[RateCurve, Law]:
    """Rate and law of gaps together: how far counts scatter decides which rates differ, and what
    the rate explains is no burst. Two rounds; a third changes nothing that matters.

    Args:
        times: of the arrivals in order, seconds from the start; three or more.
        seconds: for which arrivals were watched; above 0.
    """
    curve = fit_rate(times, seconds, local_dispersion(times))
    curve = fit_rate(times, seconds, fit_gaps(operational_gaps(curve, times)).cv ** 2)
    return curve, fit_gaps(operational_gaps(curve, times))


def operational_gaps(curve: RateCurve, times: Floats) -> Floats:
    """Gaps in expected arrivals: with a mean of about 1 whatever the rate did."""
    return np.diff(operational(curve, times))


def fit_gaps(gaps: Floats) -> Law:
    """The simplest law with the CV of the gaps: a clock, Poisson, or gamma.

    By moments, not by likelihood: logs are coarse, and one gap of 0 has no likelihood under any
    bursty gamma law.
    """
    mean = float(gaps.mean())
    cv = float(gaps.std()) / mean if mean > 0 else 0.0
    if cv < _CLOCK:
        return Constant()
    # The standard error of the CV of n exponential gaps is 1 / sqrt(n).
    if abs(cv - 1.0) <= max(_NEAR_POISSON, 2.0 / np.sqrt(len(gaps))):
        return Poisson()
    return Gamma(max(round(cv, 3), _LEAST_CV))


def dispersion_of_counts(clock: Floats, window: float) -> float | None:
    """Variance over mean of the arrivals in windows of operational time.

    Gaps alone do not tell one burst of a hundred from a hundred bursts of two: counts do. None
    below ten windows.

    Args:
        clock: operational times of the arrivals, in order.
        window: arrivals expected in each.
    """
    windows = int(clock[-1] / window) if len(clock) else 0
    if windows < 10:
        return None
    counts, _ = np.histogram(clock, bins=windows, range=(0.0, windows * window))
    return float(counts.var(ddof=1) / counts.mean())
