"""Traces made faster, denser or shorter, and what each of these keeps.

A trace at twice its rate is not one thing. Played faster, its bursts keep their shape and sessions
come back sooner; thinned, bursts are smoothed and fewer prefixes are shared; laid over itself, more
users come who share nothing with the others. `facts` tells the difference in figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from forebay.measure import percentile
from forebay.workload.traces import Row, shifted


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFacts:
    """A trace in figures.

    Attributes:
        requests: how many.
        seconds: from the first to the last.
        rate: requests/s over that time; 0 for a single moment.
        gap_cv: coefficient of variation of the gaps: 1 for Poisson, above for bursts; None below
            three requests.
        prompt_mean, output_mean: tokens.
        prompt_p99, output_p99: tokens.
        reusable: share of the prompt tokens whose block, and all before it, came up earlier: what
            an endless prefix cache would hit.
        reuse_gap_p50_s: median seconds between two uses of a block; None without any.
    """

    requests: int
    seconds: float
    rate: float
    gap_cv: float | None
    prompt_mean: float
    prompt_p99: float
    output_mean: float
    output_p99: float
    reusable: float
    reuse_gap_p50_s: float | None


def facts(rows: Sequence[Row]) -> TraceFacts:
    """The figures of one request or more, in order of time.

    Raises:
        ValueError: there is none.
    """
    if not rows:
        raise ValueError("a trace needs at least one request")
    times = np.array([row.at_s for row in rows])
    prompts = np.array([row.prompt_tokens for row in rows], dtype=np.float64)
    outputs = np.array([row.output_tokens for row in rows], dtype=np.float64)
    seconds, gaps = float(times[-1] - times[0]), np.diff(times)
    varied = len(gaps) > 1 and gaps.mean() > 0
    reused, reuse_gaps = _reuse(rows)
    return TraceFacts(
        requests=len(rows),
        seconds=seconds,
        rate=len(rows) / seconds if seconds > 0 else 0.0,
        gap_cv=float(gaps.std() / gaps.mean()) if varied else None,
        prompt_mean=float(prompts.mean()),
        prompt_p99=percentile(prompts.tolist(), 99) or 0.0,
        output_mean=float(outputs.mean()),
        output_p99=percentile(outputs.tolist(), 99) or 0.0,
        reusable=reused / float(prompts.sum()),
        reuse_gap_p50_s=percentile(reuse_gaps, 50),
    )


def _reuse(rows: Sequence[Row]) -> tuple[int, list[float]]:
    """Prompt tokens in blocks seen before, and the seconds since each was."""
    last: dict[str, float] = {}
    reused, gaps = 0, []
    for row in rows:
        left, unbroken = row.prompt_tokens, True
        for block in row.blocks:
            size = min(left, row.block_tokens)
            if size <= 0:
                break
            unbroken = unbroken and block in last
            if unbroken:
                reused += size
                gaps.append(row.at_s - last[block])
            last[block] = row.at_s
            left -= size
    return reused, gaps


def faster(rows: Sequence[Row], speed: float) -> list[Row]:
    """Every gap divided by `speed` (above 0).

    Keeps the bursts' CV, lengths and prefix reuse; users return and the load swells `speed` times
    sooner.
    """
    if not speed > 0:
        raise ValueError(f"a trace is played at a speed above 0, not {speed}")
    return [replace(row, at_s=row.at_s / speed) for row in rows]


def thinned(rows: Sequence[Row], share: float, rng: np.random.Generator) -> list[Row]:
    """A random `share` (above 0, up to 1) of the requests, each kept or not by itself.

    Keeps the shape over time and the lengths; the CV moves towards 1 and fewer prefixes are reused.

    Raises:
        ValueError: the share is none, or nothing is left.
    """
    if not 0 < share <= 1:
        raise ValueError(f"a share of a trace lies above 0 and up to 1, not at {share}")
    chosen = rng.random(len(rows)) < share
    kept = [row for row, keep in zip(rows, chosen, strict=True) if keep]
    if not kept:
        raise ValueError(
            f"none of the trace's {len(rows)} requests is left of a share of {share:g}"
        )
    return kept


def overlaid(rows: Sequence[Row], copies: int, rng: np.random.Generator) -> list[Row]:
    """`copies` (1 or more) of the trace at once, each begun at another place and wrapped around.

    Keeps the mean rate of each copy, its lengths and its prefix reuse, since the copies share no
    block; the CV moves towards 1, and what the load does over the day is smoothed. Where many
    requests bear one time stamp (Mooncake's are kept to 3 s), it is these that are spread: the CV
    then rises towards that of clumps which come at random.
    """
    if copies < 1:
        raise ValueError(f"a trace is laid over itself once or more, not {copies} times")
    period = rows[-1].at_s - rows[0].at_s
    every = list(rows)
    for copy in range(1, copies):
        offset = rng.uniform(0, period) if period > 0 else 0.0
        names = {block: f"{copy}:{block}" for row in rows for block in row.blocks}
        every += [
            replace(
                row,
                at_s=row.at_s - period if row.at_s > rows[-1].at_s else row.at_s,
                blocks=tuple(names[block] for block in row.blocks),
            )
            for row in shifted(rows, offset)
        ]
    return sorted(every, key=lambda row: row.at_s)


def window(rows: Sequence[Row], start_s: float, seconds: float | None) -> list[Row]:
    """The requests from second `start_s` on, for `seconds` (to the end, if None), from second 0.

    Raises:
        ValueError: none is left.
    """
    end = np.inf if seconds is None else start_s + seconds
    kept = [row for row in rows if start_s <= row.at_s < end]
    if not kept:
        raise ValueError(f"the trace holds no request between {start_s:g} s and {end:g} s")
    return shifted(kept, -start_s)


def within_context(rows: Sequence[Row], tokens: int) -> list[Row]:
    """The requests whose prompt and answer fit a context of `tokens`.

    Raises:
        ValueError: none does.
    """
    kept = [row for row in rows if row.prompt_tokens + row.output_tokens <= tokens]
    if not kept:
        raise ValueError(f"no request of the trace fits a context of {tokens} tokens")
    return kept
