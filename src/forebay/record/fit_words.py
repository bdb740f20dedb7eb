"""A fit in words: what the workload holds, and how well it stands for the recording."""

from __future__ import annotations

from collections.abc import Iterator

from forebay.record.trace_fit import Fitted
from forebay.spec.files import format_seconds
from forebay.workload import (
    Constant,
    Figure,
    FitQuality,
    Fixed,
    Histogram,
    Hold,
    Independent,
    Joint,
    Kind,
    Law,
    Lengths,
    Lognormal,
    Poisson,
    RateCurve,
)

COLUMNS = ("what", "recorded", "fitted", "apart", "fits up to", "verdict")


def cells(figure: Figure) -> tuple[str, ...]:
    """A row of the table of figures."""
    numbers = (figure.recorded, figure.fitted, figure.distance, figure.limit)
    said = ("-" if n is None else f"{n:,.0f}" if n >= 100 else f"{n:.3f}" for n in numbers)
    return (figure.name, *said, figure.verdict)


def workload_lines(fitted: Fitted) -> Iterator[str]:
    """What was fitted, a line for each part."""
    workload = fitted.workload
    if fitted.step_s:
        yield (
            f"times are known to {fitted.step_s:g} s only; within that, arrivals were spread at "
            "random"
        )
    yield f"rate: {_rate(workload.curve)}"
    yield f"gaps: {_gaps(workload.law)}"
    yield from map(_kind, workload.kinds)


def verdict_lines(quality: FitQuality, trace: str, format_name: str) -> Iterator[str]:
    """The verdict, and what to do."""
    for figure in quality.figures:
        if figure.advice:
            yield f"{figure.name} ({figure.verdict}): {figure.advice}"
    if quality.verdict == "fits":
        yield "fits: the workload may stand for the recording"
        return
    yield f"{quality.verdict}; the recording itself is played by a workload file with"
    yield f"  trace: {{file: {trace}, format: {format_name}}}"


def _rate(curve: RateCurve) -> str:
    levels = [piece.level for piece in curve.pieces if isinstance(piece, Hold)]
    length = format_seconds(round(curve.seconds))
    if len(levels) == 1:
        return f"{levels[0]:.4g}/s for {length}"
    return f"{len(levels)} stages between {min(levels):.3g} and {max(levels):.3g}/s over {length}"


def _gaps(law: Law) -> str:
    if isinstance(law, Poisson):
        return "poisson: independent arrivals"
    return "constant: a clock" if isinstance(law, Constant) else f"gamma with a CV of {law.cv:g}"


def _kind(kind: Kind) -> str:
    said = [f"prompt and output {_pairs(kind.lengths)}"]
    if isinstance(kind.lengths, Independent):
        said = [f"prompt {_law(kind.lengths.prompt)}", f"output {_law(kind.lengths.output)}"]
    pool = kind.prefixes
    if pool is not None:
        said.append(f"behind {pool.count} prefixes of {_law(pool.lengths)}, zipf {pool.zipf:g}")
    if kind.tenants:
        said.append(f"{len(kind.tenants)} tenants")
    return f"{kind.name} ({100 * kind.share:.3g} %): {', '.join(said)}"


def _pairs(law: object) -> str:
    return f"in {len(law.pairs)} recorded pairs" if isinstance(law, Joint) else "by a law"


def _law(law: Lengths) -> str:
    if isinstance(law, Fixed):
        return f"{law.tokens} tokens"
    if isinstance(law, Lognormal):
        return f"lognormal (p50 {law.p50:g}, p99 {law.p99:g} tokens)"
    return f"in {len(law.weights)} bins" if isinstance(law, Histogram) else "by a law"
