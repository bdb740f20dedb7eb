"""Gaps between tokens. A run has millions of them: everything here is done on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from forebay.measure.records import RequestRecord

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 1e-12


def token_gaps(records: Sequence[RequestRecord]) -> tuple[Floats, Floats]:
    """Gaps between content events in seconds, and how many token gaps each stands for.

    A chunk of k tokens counts as k gaps. Which event held how many is not said by a server, only
    the sum at the end; so the tokens of a request are spread evenly over its events: exact where
    each event holds one, as vLLM's do.
    """
    gaps, weights, _ = owned_token_gaps(records)
    return gaps, weights


def owned_token_gaps(records: Sequence[RequestRecord]) -> tuple[Floats, Floats, Ints]:
    """`token_gaps`, and the place among the records of the one that each belongs to."""
    kept = [
        (place, record.token_times, record.tokens_out)
        for place, record in enumerate(records)
        if record.token_times is not None and len(record.token_times) > 1
    ]
    if not kept:
        return np.empty(0), np.empty(0), np.empty(0, dtype=np.int64)
    events = np.array([len(times) for _, times, _ in kept])
    every = np.diff(np.concatenate([np.asarray(times, dtype=np.float64) for _, times, _ in kept]))
    gaps = np.delete(every, np.cumsum(events)[:-1] - 1)  # from one request's last to the next's
    counts = events - 1
    tokens = np.array([tokens for *_, tokens in kept])
    weights = np.repeat(np.maximum(1.0, (tokens - 1) / counts), counts)
    owners = np.repeat(np.array([place for place, *_ in kept]), counts)
    return gaps / weights, weights, owners


def weighted_percentiles(
    values: Floats, weights: Floats, qs: Sequence[float]
) -> list[float | None]:
    """Nearest ranks among values of which each counts `weights` times; None of nothing."""
    n = len(values)
    if n == 0:
        return [None for _ in qs]
    if np.all(weights == 1.0):
        ranks = [max(0, math.ceil(q / 100 * n * (1 - _ROUNDING)) - 1) for q in qs]
        ordered = np.partition(values, sorted(set(ranks)))
        return [float(ordered[rank]) for rank in ranks]
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(weights[order])
    wanted = np.asarray(qs) / 100 * upto[-1] * (1 - _ROUNDING)
    places = np.minimum(np.searchsorted(upto, wanted), n - 1)
    return [float(value) for value in values[order[places]]]
