"""A run's records as numpy columns, so that 100,000 requests are counted in moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from forebay.measure import OUTCOMES, RequestRecord
from forebay.measure.percentiles import percentiles

# Drawn from the axis up; each is a class of the style sheet. Every request is in exactly one.
CATEGORIES = ("good", "late", "left", "failed", "shed")
_GOOD, _LATE, _LEFT, _FAILED, _SHED = range(len(CATEGORIES))
_CODES = {name: code for code, name in enumerate(OUTCOMES)}
_ROW = np.dtype(
    [
        ("at", "f8"),
        ("ttft", "f8"),
        ("tpot", "f8"),
        ("e2e", "f8"),
        ("category", "i1"),
        ("outcome", "i1"),
        ("admitted", "?"),
    ]
)


@dataclass(frozen=True, slots=True)
class Columns:
    """One entry per request, in the order of the records. NaN is what was not measured.

    Attributes:
        at: intended send, seconds from the start of the run.
        ttft, tpot, e2e: seconds.
        category: index into `CATEGORIES`.
        outcome: index into `OUTCOMES`.
        admitted: taken up by the server.
    """

    at: NDArray[np.float64]
    ttft: NDArray[np.float64]
    tpot: NDArray[np.float64]
    e2e: NDArray[np.float64]
    category: NDArray[np.int8]
    outcome: NDArray[np.int8]
    admitted: NDArray[np.bool_]

    def __len__(self) -> int:
        """Requests."""
        return len(self.at)

    def pick(self, chosen: NDArray[np.bool_]) -> Columns:
        """The requests for which ``chosen`` is true."""
        return Columns(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def count(self, category: str) -> int:
        """Requests of a category."""
        return int(np.count_nonzero(self.of(category)))

    def of(self, category: str) -> NDArray[np.bool_]:
        """Which requests are of a category."""
        chosen: NDArray[np.bool_] = self.category == CATEGORIES.index(category)
        return chosen

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which requests ended well, within their SLOs or not."""
        return self.of("good") | self.of("late")


def columns(
    records: Sequence[RequestRecord], slo_ttft_s: float, slo_tpot_s: float | None
) -> Columns:
    """Reads the records once."""
    rows = np.fromiter(_rows(records, slo_ttft_s, slo_tpot_s), _ROW, len(records))
    return Columns(*(np.ascontiguousarray(rows[field.name]) for field in fields(Columns)))


def _rows(
    records: Sequence[RequestRecord], slo_ttft_s: float, slo_tpot_s: float | None
) -> Iterator[tuple[float | int | bool, ...]]:
    for r in records:
        ttft, tpot = r.ttft, r.tpot
        yield (
            r.intended_s,
            np.nan if ttft is None else ttft,
            np.nan if tpot is None else tpot,
            r.e2e,
            _category(r, slo_ttft_s, slo_tpot_s),
            _CODES[r.outcome],
            r.admitted,
        )


def _category(record: RequestRecord, slo_ttft_s: float, slo_tpot_s: float | None) -> int:
    if record.outcome == "ok":
        return _GOOD if record.is_good(slo_ttft_s, slo_tpot_s) else _LATE
    if record.outcome == "shed":
        return _SHED
    return _FAILED if record.failure else _LEFT


def grouped(
    records: Sequence[RequestRecord], name: Callable[[RequestRecord], str]
) -> tuple[list[str], NDArray[np.int64]]:
    """The names that occur, the most frequent first, and which of them each record has."""
    codes: dict[str, int] = {}
    places = np.fromiter(
        (codes.setdefault(name(r), len(codes)) for r in records), np.int64, len(records)
    )
    order = np.argsort(-np.bincount(places, minlength=len(codes)), kind="stable")
    ranks = np.empty(len(codes), np.int64)
    ranks[order] = np.arange(len(codes))
    names = list(codes)
    return [names[code] for code in order], ranks[places]


def quantiles(values: NDArray[np.float64], qs: Sequence[float]) -> list[float | None]:
    """`percentiles` of those values that were measured."""
    return percentiles(values[~np.isnan(values)].tolist(), qs)
