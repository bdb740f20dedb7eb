"""What a server's series says about its queue, its slots, its KV blocks and its token rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median_low

from forebay.measure.evidence import ServerSample
from forebay.measure.percentiles import percentile

# Fewer samples than this in a third of the run say nothing of how two quantities move together.
_THIRD = 3


@dataclass(frozen=True, slots=True)
class Pressure:
    """Medians and shares of one series; None where the server did not tell.

    ``running`` and the token rates are those of the *pressed* samples: while something was queued,
    or all of them when nothing ever was. What the server does without a queue is its clients'
    choice, not its limit.

    Attributes:
        queue_share: share of samples with something queued.
        queued_requests, queued_tokens: medians while something was queued.
        running: of each pressed sample.
        kv_p95: 95th percentile of the share of KV blocks in use.
        preempting_share: share of samples in which sequences were preempted.
        preemptions_per_s: mean.
        prompt_tokens_per_s, output_tokens_per_s: medians of the pressed samples.
        flat: (running, output tokens/s) in the third of the run with the fewest and that with the
            most running, when more sequences brought no more tokens.
    """

    queue_share: float | None
    queued_requests: float | None
    queued_tokens: float | None
    running: Sequence[float]
    kv_p95: float | None
    preempting_share: float | None
    preemptions_per_s: float | None
    prompt_tokens_per_s: float | None
    output_tokens_per_s: float | None
    flat: tuple[tuple[float, float], tuple[float, float]] | None

    @property
    def told(self) -> bool:
        """Whether the server said anything of its queue, its sequences or its KV blocks."""
        return bool(self.running) or self.queue_share is not None or self.kv_p95 is not None

    @property
    def running_p50(self) -> float | None:
        """Median of the pressed samples."""
        return percentile(self.running, 50)

    def running_share(self, least: float) -> float:
        """Share of the pressed samples in which ``least`` sequences or more were running."""
        return _share(value >= least for value in self.running) or 0.0


def pressure(samples: Sequence[ServerSample]) -> Pressure:
    """Sums up ``samples``, whatever is missing from them."""
    telling = [queued for s in samples if (queued := _is_queued(s)) is not None]
    pressed = [s for s in samples if _is_queued(s)] or list(samples)
    preemptions = _known(s.preemptions_per_s for s in samples)
    return Pressure(
        queue_share=_share(telling),
        queued_requests=percentile(_positive(s.queued_requests for s in samples), 50),
        queued_tokens=percentile(_positive(s.queued_tokens for s in samples), 50),
        running=tuple(_known(s.running for s in pressed)),
        kv_p95=percentile(_known(s.kv_usage for s in samples), 95),
        preempting_share=_share(value > 0 for value in preemptions),
        preemptions_per_s=sum(preemptions) / len(preemptions) if preemptions else None,
        prompt_tokens_per_s=percentile(_known(s.prompt_tokens_per_s for s in pressed), 50),
        output_tokens_per_s=percentile(_known(s.output_tokens_per_s for s in pressed), 50),
        flat=_flat(samples),
    )


def _flat(
    samples: Sequence[ServerSample],
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """See `Pressure.flat`: half again as many sequences for at most 5 % more tokens/s.

    A batch that is not yet limited by decode gains tokens about in step with its size.
    """
    pairs = sorted(
        (s.running, s.output_tokens_per_s)
        for s in samples
        if _is_known(s.running) and _is_known(s.output_tokens_per_s)
        if s.running and s.output_tokens_per_s
    )
    third = len(pairs) // 3
    if third < _THIRD:
        return None
    few, many = _medians(pairs[:third]), _medians(pairs[-third:])
    grew = many[0] >= 1.5 * few[0]
    return (few, many) if grew and many[1] <= 1.05 * few[1] else None


def _medians(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*pairs, strict=True)
    return median_low(first), median_low(second)


def _is_queued(sample: ServerSample) -> bool | None:
    known = _known((sample.queued_requests, sample.queued_tokens))
    return any(value > 0 for value in known) if known else None


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _positive(values: Iterable[float | None]) -> list[float]:
    return [value for value in _known(values) if value > 0]


def _share(flags: Iterable[bool]) -> float | None:
    """Share of True; None of nothing."""
    listed = list(flags)
    return sum(listed) / len(listed) if listed else None
