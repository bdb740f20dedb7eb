"""How well a fitted workload stands for the recording: figure by figure, each with a verdict.

The workload's own schedule is drawn once and held against the record, so what is judged is what
would be played, whatever the fit assumed on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from forebay.workload.distances import Values, ks_distance, ks_noise, rank_correlation
from forebay.workload.gap_fitting import dispersion_of_counts, operational_gaps
from forebay.workload.length_fitting import CLOSE, mean_noise
from forebay.workload.rate_fitting import operational
from forebay.workload.requests import Session
from forebay.workload.rescaling import TraceFacts, facts
from forebay.workload.schedule import OpenLoop
from forebay.workload.traces import Row

Verdict = Literal["fits", "roughly", "does not fit"]
_ORDER: tuple[Verdict, ...] = ("fits", "roughly", "does not fit")

_LAW_GAPS = 100_000  # drawn from the law of gaps: no noise of their own worth mentioning
_WINDOW = 50.0  # expected arrivals in a window whose counts are compared: bursts of seconds
_RATIO = 1.5  # between two dispersions that load a server alike
_SMOOTH = 0.1  # a dispersion below is as good as none
_CORRELATION = 0.1
_REUSE = 0.03  # of all prompt tokens: 3 % more or less prefill work
_NO_LAW = "no law here has their shape: replay the trace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One comparison.

    Attributes:
        name: what is compared.
        recorded, fitted: its value in the record and in the workload; None where it has none.
        distance: how far they lie apart: a KS distance, a difference (of means: as a share), or
            a ratio of 1 or more.
        limit: distance up to which it fits; up to twice as much is roughly.
        verdict: in words.
        advice: what to do where it does not fit; else empty.
    """

    name: str
    recorded: float | None
    fitted: float | None
    distance: float
    limit: float
    verdict: Verdict
    advice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitQuality:
    """All figures, and the traces that they come from in short."""

    figures: tuple[Figure, ...]
    recorded: TraceFacts
    fitted: TraceFacts

    @property
    def verdict(self) -> Verdict:
        """The worst of them."""
        return max((figure.verdict for figure in self.figures), key=_ORDER.index)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def judge_fit(rows: Sequence[Row], workload: OpenLoop) -> FitQuality:
    """Holds a workload that `fitting.fit_workload` made of the rows against them.

    Raises:
        ValueError: the workload's schedule holds no request.
    """
    made = session_rows(workload.schedule())
    recorded, fitted = facts(rows), facts(made)
    figures = (
        *_arrival_figures(rows, made, workload),
        *_length_figures(rows, made),
        _reuse_figure(recorded, fitted),
    )
    return FitQuality(figures=figures, recorded=recorded, fitted=fitted)


def session_rows(schedule: Sequence[Session]) -> list[Row]:
    """Single requests as a trace; a shared beginning is one block of its own length."""
    return [_row(session) for session in schedule]


def _row(session: Session) -> Row:
    request = session.turns[0]
    first = request.segments[0]
    return Row(
        at_s=session.at_s or 0.0,
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.output_tokens,
        blocks=(first.name,) if first.shared else (),
        block_tokens=first.tokens,
        class_name=session.class_name,
        tenant=session.tenant,
    )


def _arrival_figures(
    rows: Sequence[Row], made: Sequence[Row], workload: OpenLoop
) -> Iterator[Figure]:
    curve = workload.curve
    times, drawn = _column(rows, "at_s"), _column(made, "at_s")
    yield _gaps_figure(operational_gaps(curve, times), workload)
    counts = [dispersion_of_counts(operational(curve, one), _WINDOW) for one in (times, drawn)]
    if counts[0] is not None and counts[1] is not None:
        yield _bursts_figure(counts[0], counts[1], curve.requests / _WINDOW)


def _gaps_figure(gaps: Values, workload: OpenLoop) -> Figure:
    name = "gaps, rate removed"
    advice = "the bursts have another shape than the law's gaps: replay the trace"
    if workload.law.cv == 0:  # beside a clock, the least jitter is a KS distance of 1/2
        jitter = float(gaps.std() / gaps.mean())
        return _figure(name, (jitter, 0.0), jitter, CLOSE, advice)
    rng = np.random.default_rng([workload.seed, 5])
    return _distance_figure(name, gaps, workload.law.gaps(_LAW_GAPS, rng), advice)


def _length_figures(rows: Sequence[Row], made: Sequence[Row]) -> Iterator[Figure]:
    prompts = [_column(side, "prompt_tokens") for side in (rows, made)]
    outputs = [_column(side, "output_tokens") for side in (rows, made)]
    for name, (recorded, fitted) in (("prompt", prompts), ("output", outputs)):
        yield _distance_figure(f"{name} lengths", recorded, fitted, _NO_LAW)
        yield _means_figure(f"mean {name} length", recorded, fitted)
    related = [
        rank_correlation(prompt, output) or 0.0
        for prompt, output in zip(prompts, outputs, strict=True)
    ]
    yield _figure(
        "prompt and output together",
        (related[0], related[1]),
        abs(related[0] - related[1]),
        max(_CORRELATION, 2.0 / float(np.sqrt(min(len(rows), len(made))))),
        "long prompts no longer have their kind of answer: replay the trace",
    )


def _reuse_figure(recorded: TraceFacts, fitted: TraceFacts) -> Figure:
    return _figure(
        "reusable prompt tokens",
        (recorded.reusable, fitted.reusable),
        abs(recorded.reusable - fitted.reusable),
        _REUSE,
        "conversations, or sharing in several steps, are not fitted: replay the trace",
    )


def _bursts_figure(recorded: float, fitted: float, windows: float) -> Figure:
    # A variance of n counts is known to a share of sqrt(2 / n).
    limit = max(_RATIO, 1.0 + 3.0 * float(np.sqrt(2.0 / windows)))
    low, high = (max(value, _SMOOTH) for value in sorted((recorded, fitted)))
    advice = "bursts last longer, or shorter, than independent gaps make them: replay the trace"
    return _figure("bursts over 50 requests", (recorded, fitted), high / low, limit, advice)


def _means_figure(name: str, recorded: Values, fitted: Values) -> Figure:
    means = float(recorded.mean()), float(fitted.mean())
    limit = max(CLOSE, mean_noise(recorded, len(fitted)))
    return _figure(name, means, abs(means[1] / means[0] - 1.0), limit, _NO_LAW)


def _distance_figure(name: str, recorded: Values, fitted: Values, advice: str) -> Figure:
    limit = max(CLOSE, ks_noise(len(recorded), len(fitted)))
    return _figure(name, (None, None), ks_distance(recorded, fitted), limit, advice)


def _figure(
    name: str,
    values: tuple[float | None, float | None],
    distance: float,
    limit: float,
    advice: str,
) -> Figure:
    verdict = _ORDER[int(distance > limit) + int(distance > 2.0 * limit)]
    recorded, fitted = values
    return Figure(
        name=name,
        recorded=recorded,
        fitted=fitted,
        distance=distance,
        limit=limit,
        verdict=verdict,
        advice="" if verdict == "fits" else advice,
    )


def _column(rows: Sequence[Row], field: str) -> Values:
    return np.array([getattr(row, field) for row in rows])
