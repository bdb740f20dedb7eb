"""The simplest law of lengths that recorded lengths follow closely enough."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from forebay.workload.distances import Values, ks_distance, ks_noise, rank_correlation
from forebay.workload.kinds import PairLaw
from forebay.workload.lengths import (
    Fixed,
    Histogram,
    Independent,
    Ints,
    Joint,
    Lengths,
    Lognormal,
)

CLOSE = 0.05  # KS distance, and share of the mean, up to which a law is as good as the record
UNRELATED = 0.1  # rank correlation up to which prompts and answers are drawn by themselves
MOST_PAIRS = 5000  # kept of a joint law: 1.36 / sqrt(5000) = 2 % off at most, in 50 kB
_DRAWN = 20_000  # lengths that a law is judged by
_BINS = 32
_TAIL = (0.99, 0.995, 0.999)  # where a histogram has further edges: the long ones cost most


def fit_pairs(prompts: Ints, outputs: Ints, rng: np.random.Generator) -> PairLaw:
    """A law for each if both have one and little to do with each other, else the pairs themselves.

    Args:
        prompts: tokens, 1 or more, of one request or more.
        outputs: tokens of their answers, likewise.
        rng: for what is drawn on the way.
    """
    related = rank_correlation(prompts, outputs) or 0.0
    # Correlations of unrelated values scatter by 1 / sqrt(n).
    if abs(related) <= max(UNRELATED, 2.0 / np.sqrt(len(prompts))):
        prompt, output = fit_lengths(prompts, rng), fit_lengths(outputs, rng)
        if prompt is not None and output is not None:
            return Independent(prompt, output)
    return Joint(_pairs(prompts, outputs, rng))


def fit_lengths(values: Ints, rng: np.random.Generator) -> Lengths | None:
    """The first of fixed, lognormal and histogram that comes close; None if none does.

    Args:
        values: tokens, 1 or more, of one request or more.
        rng: for the draws that a law is judged by.
    """
    return next((law for law in _candidates(values) if _is_close(values, law, rng)), None)


def mean_noise(values: Values, count: int) -> float:
    """Share of the mean by which the means of these values and of `count` others of their law
    differ by chance in 5 % of all cases.
    """
    spread = float(values.std() / values.mean())
    return 2.0 * spread * float(np.sqrt(1 / len(values) + 1 / count))


def _is_close(values: Ints, law: Lengths, rng: np.random.Generator) -> bool:
    """By law and by mean: a few long ones that are missing leave the law where it was."""
    drawn = law.draw(_DRAWN, rng)
    off = abs(float(drawn.mean() / values.mean()) - 1.0)
    return ks_distance(values, drawn) <= max(CLOSE, ks_noise(len(values), _DRAWN)) and off <= max(
        CLOSE, mean_noise(values, _DRAWN)
    )


def _candidates(values: Ints) -> Iterator[Lengths]:
    """From the simplest on."""
    least, most = int(values.min()), int(values.max())
    if least == most:
        yield Fixed(least)
        return
    p50, p99 = (float(np.quantile(values, share)) for share in (0.5, 0.99))
    if p99 > p50:
        yield Lognormal(round(p50, 1), round(p99, 1), least=least, most=most)
    yield histogram(values)


def histogram(values: Ints) -> Histogram:
    """Bins of equal weight, as far as whole tokens allow, and finer ones in the tail."""
    places = [*np.linspace(0.0, 1.0, _BINS + 1).tolist(), *_TAIL]
    inner = np.quantile(values, places, method="inverted_cdf").astype(np.int64)
    edges = np.unique([*inner.tolist(), int(values.max()) + 1])
    counts, _ = np.histogram(values, bins=edges)
    return Histogram(tuple(edges.tolist()), tuple(float(count) for count in counts.tolist()))


def _pairs(prompts: Ints, outputs: Ints, rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    """All pairs, or `MOST_PAIRS` of them drawn without return."""
    chosen = np.arange(len(prompts))
    if len(prompts) > MOST_PAIRS:
        chosen = np.sort(rng.choice(len(prompts), MOST_PAIRS, replace=False))
    return tuple(zip(prompts[chosen].tolist(), outputs[chosen].tolist(), strict=True))
