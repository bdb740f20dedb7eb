"""Gaps between tokens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from forebay.measure.records import RequestRecord


def token_gaps(records: Iterable[RequestRecord]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gaps between content events in seconds, and how many token gaps each stands for.

    A chunk of k tokens counts as k gaps. Which event held how many is not said by a server, only
    the sum at the end; so the tokens of a request are spread evenly over its events: exact where
    each event holds one, as vLLM's do.
    """
    gaps, weights = [], []
    for record in records:
        times = record.token_times
        if times is None or len(times) < 2:
            continue
        found = np.diff(np.asarray(times))
        per_gap = max(1.0, (record.tokens_out - 1) / len(found))
        gaps.append(found / per_gap)
        weights.append(np.full(len(found), per_gap))
    if not gaps:
        return np.empty(0), np.empty(0)
    return np.concatenate(gaps), np.concatenate(weights)


def weighted_percentile(
    values: NDArray[np.float64], weights: NDArray[np.float64], q: float
) -> float | None:
    """Nearest rank among values of which each counts `weights` times; None of nothing."""
    if len(values) == 0:
        return None
    order = np.argsort(values, kind="stable")
    ranks = np.cumsum(weights[order])
    place = np.searchsorted(ranks, q / 100 * ranks[-1] * (1 - 1e-12))
    return float(values[order[min(int(place), len(values) - 1)]])
