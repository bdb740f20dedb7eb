"""A run as arrays, and figures of it in which each request counts a number of times.

A resample of a run says how often each of its requests was drawn. Every figure here is computed
from such counts, so the run's own figure (each request once) and that of a resample come from the
same code. It agrees with `percentiles` and `summary`: nearest rank, +infinity an ordinary value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forebay.measure.itl import owned_token_gaps
from forebay.measure.records import RequestRecord
from forebay.measure.windows import tokens_within

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Counts = NDArray[np.int32]

# A long run has millions of token gaps. Beyond this many, every k-th in ascending order stands for
# k of them, which moves a percentile by less than one rank in 200,000.
_MOST_VALUES = 200_000
_ROUNDING = 1e-9  # as in `percentiles`


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Values in ascending order.

    Attributes:
        values: shape (values,).
        owners: index of the request that each belongs to.
        weights: how many values each stands for; None for one each.
    """

    values: Floats
    owners: Ints
    weights: Floats | None = None

    @classmethod
    def of(cls, values: Floats, owners: Ints, weights: Floats | None = None) -> Series:
        """Sorts; thins out what is too long to resample."""
        order = np.argsort(values, kind="stable")
        step = 1 + max(0, len(order) - 1) // _MOST_VALUES
        kept = order[step // 2 :: step]
        return cls(values[kept], owners[kept], None if weights is None else weights[kept])

    @classmethod
    def per_request(cls, values: Iterable[float | None]) -> Series:
        """One value a request; None where it has none."""
        column = _column(values)
        defined = np.flatnonzero(~np.isnan(column))
        return cls.of(column[defined], defined)


@dataclass(frozen=True, slots=True, eq=False)
class RunSample:
    """One run, its requests in order of their intended send.

    Attributes:
        duration_s: seconds during which requests were offered.
        intended_s: when each was to be sent, ascending, shape (requests,).
        series: what percentiles are taken of, in seconds: ``ttft`` and ``tpot`` where defined,
            ``ttft_adjusted`` of all that was served or failed, a failure counting as +infinity,
            ``e2e`` of what finished, ``itl`` where token times were kept.
        columns: a number for each request, shape (requests,): ``counted``, ``good``, ``shed`` and
            ``failed`` (0 or 1), ``tokens``. Those not counted have nothing but tokens.
    """

    duration_s: float
    intended_s: Floats
    series: Mapping[str, Series]
    columns: Mapping[str, Floats]

    @property
    def size(self) -> int:
        """Requests."""
        return len(self.intended_s)

    @property
    def longest(self) -> int:
        """Values of the longest series, or requests when those are more."""
        return max(self.size, *(len(series.values) for series in self.series.values()))


def sample_run(
    records: Sequence[RequestRecord],
    duration_s: float,
    slo_ttft: float,
    slo_tpot: float | None = None,
    tail: Sequence[RequestRecord] = (),
) -> RunSample:
    """A run of ``duration_s`` seconds as arrays, judged by SLOs in seconds.

    Of the ``tail``, which a closed loop leaves in flight, nothing is taken but the tokens that had
    come by then.

    Raises:
        ValueError: when ``duration_s`` is not above 0.
    """
    if not duration_s > 0:
        raise ValueError(f"a run lasts longer than {duration_s} s")
    ordered = sorted((*records, *tail), key=lambda record: record.intended_s)
    late = set(map(id, tail))
    told = [None if id(record) in late else record for record in ordered]
    return RunSample(
        duration_s,
        _column(r.intended_s for r in ordered),
        series={
            "ttft": Series.per_request(None if r is None else r.ttft for r in told),
            "ttft_adjusted": Series.per_request(
                None if r is None else _adjusted_ttft(r) for r in told
            ),
            "tpot": Series.per_request(None if r is None else r.tpot for r in told),
            "e2e": Series.per_request(r.e2e if r and r.outcome == "ok" else None for r in told),
            "itl": _token_gaps(told),
        },
        columns={
            "counted": _column(r is not None for r in told),
            "good": _column(r is not None and r.is_good(slo_ttft, slo_tpot) for r in told),
            "shed": _column(r is not None and r.outcome == "shed" for r in told),
            "failed": _column(r is not None and r.failure for r in told),
            "tokens": _column(tokens_within(r, 0.0, duration_s) for r in ordered),
        },
    )


class Draws:
    """How often each request of a run was drawn: a row per resample, a column per request."""

    def __init__(self, run: RunSample, counts: Counts) -> None:
        self._run = run
        self._counts = counts
        self._cumulated: dict[str, NDArray[Any]] = {}

    @classmethod
    def once(cls, run: RunSample) -> Draws:
        """The run itself: one row, each request once."""
        return cls(run, np.ones((1, run.size), np.int32))

    def percentile(self, name: str, q: float) -> Floats:
        """The ``q``-th percentile of a series in each row; NaN where no value was drawn."""
        values = self._run.series[name].values
        if len(values) == 0:
            return np.full(len(self._counts), np.nan)
        upto = self._cumulate(name)
        total = upto[:, -1]
        ranks = np.maximum(q / 100 * total - _ROUNDING, _ROUNDING)
        places = np.count_nonzero(upto < ranks[:, None], axis=1)
        found: Floats = np.where(total > 0, values[np.minimum(places, len(values) - 1)], np.nan)
        return found

    def mean(self, name: str) -> Floats:
        """The mean of a column in each row, of the counted; NaN where none of them was drawn."""
        drawn = self._total("counted")
        found: Floats = np.where(drawn > 0, self._total(name) / np.maximum(drawn, 1), np.nan)
        return found

    def rate(self, name: str) -> Floats:
        """A column's sum per second in each row."""
        return self._total(name) / self._run.duration_s

    def _total(self, name: str) -> Floats:
        total: Floats = self._counts @ self._run.columns[name]
        return total

    def _cumulate(self, name: str) -> NDArray[Any]:
        """How many values each row holds up to each place of the series."""
        if name not in self._cumulated:
            series = self._run.series[name]
            drawn = self._counts[:, series.owners]
            weighted = drawn if series.weights is None else drawn * series.weights
            self._cumulated[name] = np.cumsum(weighted, axis=1, dtype=weighted.dtype)
        return self._cumulated[name]


def _adjusted_ttft(record: RequestRecord) -> float | None:
    """+infinity without an answer; None for what was shed or given up by the client's own will."""
    if record.outcome == "ok" and record.ttft is not None:
        return record.ttft
    return np.inf if record.failure else None


def _token_gaps(records: Sequence[RequestRecord | None]) -> Series:
    gaps, weights, owners = owned_token_gaps([r for r in records if r is not None])
    places = np.flatnonzero([r is not None for r in records])
    return Series.of(gaps, places[owners], None if np.all(weights == 1.0) else weights)


def _column(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
