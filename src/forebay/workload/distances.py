"""How far two samples lie apart, and how far chance alone would put them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebay.workload.rates import Floats

Values = NDArray[Any]  # of numbers

_CRITICAL = 1.358  # Kolmogorov's law: exceeded by 5 % of the samples of one and the same law


def ks_distance(one: Values, other: Values) -> float:
    """Largest distance between the empirical laws of two samples, 0 to 1 (Kolmogorov-Smirnov).

    Raises:
        ValueError: one of them is empty.
    """
    if not len(one) or not len(other):
        raise ValueError("a distance needs two samples")
    one, other = np.sort(one), np.sort(other)
    every = np.concatenate([one, other])
    mine = np.searchsorted(one, every, side="right") / len(one)
    theirs = np.searchsorted(other, every, side="right") / len(other)
    return float(np.abs(mine - theirs).max())


def ks_noise(one: int, other: int) -> float:
    """The distance that two samples of so many values of one law exceed in 5 % of all cases."""
    return float(_CRITICAL * np.sqrt((one + other) / (one * other)))


def rank_correlation(one: Values, other: Values) -> float | None:
    """Spearman's: -1 to 1, blind to the form of the laws; None where one sample does not vary."""
    if len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return None
    return float(np.corrcoef(_ranks(one), _ranks(other))[0, 1])


def _ranks(values: Values) -> Floats:
    """Places in order, from 1; equal values share their mean place."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    places: Floats = np.cumsum(counts) - (counts - 1) / 2
    return places[inverse]
