"""A workload of laws in place of a recording: rate over time, bursts, lengths, shared prefixes.

Laws can be scaled, changed and shared, and hold no single request; a recording is truer. What is
lost on the way is told by `fit_quality`. Conversations are not fitted: each request stands alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from forebay.workload.gap_fitting import fit_arrivals
from forebay.workload.kinds import Kind
from forebay.workload.length_fitting import fit_pairs
from forebay.workload.lengths import Ints
from forebay.workload.prefix_fitting import PrefixStatistics, shared_prefixes
from forebay.workload.prompts import PrefixPool
from forebay.workload.schedule import OpenLoop
from forebay.workload.traces import Row

FEWEST = 30  # requests: with fewer a CV is known to 20 % at best, a 99th percentile not at all
MOST_TENANTS = 100
NOBODY, OTHERS = "nobody", "others"


def fit_workload(rows: Sequence[Row], seed: int = 0) -> OpenLoop:
    """The workload that the rows look drawn from.

    Args:
        rows: in order of time, from second 0.
        seed: of the draws by which laws are judged, and of the workload itself.

    Raises:
        ValueError: there are fewer than `FEWEST`, or all came at one moment.
    """
    if len(rows) < FEWEST:
        raise ValueError(f"{len(rows)} requests are too few for a fit; it takes {FEWEST}")
    times = np.array([row.at_s for row in rows], dtype=np.float64)
    if not times[-1] > 0:
        raise ValueError("all requests came at one moment: there is no rate to fit")
    curve, law = fit_arrivals(times, watched_s(rows))
    rng = np.random.default_rng([seed, 4])
    return OpenLoop(curve=curve, law=law, kinds=list(_kinds(rows, rng)), seed=seed)


def watched_s(rows: Sequence[Row]) -> float:
    """How long the rows were recorded for: their time, and one gap after the last."""
    return rows[-1].at_s * len(rows) / (len(rows) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Requests that become one kind: those of a class with a shared prefix, or those without."""

    name: str
    class_name: str
    rows: Sequence[Row]
    own: Ints  # prompt tokens after the shared prefix
    shared: PrefixStatistics


def _kinds(rows: Sequence[Row], rng: np.random.Generator) -> Iterator[Kind]:
    classes = Counter(row.class_name for row in rows)
    for class_name, _ in classes.most_common():
        name = class_name or ("requests" if len(classes) == 1 else "without class")
        members = [row for row in rows if row.class_name == class_name]
        for group in _groups(name, class_name, members):
            yield _kind(group, len(group.rows) / len(rows), rng)


def _groups(name: str, class_name: str, rows: Sequence[Row]) -> Iterator[_Group]:
    shared = shared_prefixes(rows)
    prompts = np.array([row.prompt_tokens for row in rows], dtype=np.int64)
    own = np.maximum(prompts - shared.tokens, 1)
    has_prefix = shared.tokens > 0
    parts = (
        (name, has_prefix, shared.counts),
        (f"{name}, nothing shared" if has_prefix.any() else name, ~has_prefix, ()),
    )
    for label, chosen, counts in parts:
        if chosen.any():
            members = [row for row, mine in zip(rows, chosen.tolist(), strict=True) if mine]
            part = PrefixStatistics(shared.tokens[chosen], counts)
            yield _Group(label, class_name, members, own[chosen], part)


def _kind(group: _Group, share: float, rng: np.random.Generator) -> Kind:
    outputs = np.array([row.output_tokens for row in group.rows], dtype=np.int64)
    return Kind(
        name=group.name,
        share=share,
        lengths=fit_pairs(group.own, outputs, rng),
        prefixes=_pool(group, rng),
        class_name=group.class_name,
        tenants=tuple(_tenants(group.rows)),
    )


def _pool(group: _Group, rng: np.random.Generator) -> PrefixPool | None:
    shared = group.shared
    if not shared.counts:
        return None
    return PrefixPool(group.name, len(shared.counts), shared.lengths(rng), shared.zipf)


def _tenants(rows: Sequence[Row]) -> Iterator[tuple[str, float]]:
    """Names with their requests, the busiest first; none where no request has one."""
    counts = Counter(row.tenant for row in rows)
    if set(counts) == {""}:
        return
    ordered = counts.most_common()
    for name, count in ordered[:MOST_TENANTS]:
        yield name or NOBODY, float(count)
    left = sum(count for _, count in ordered[MOST_TENANTS:])
    if left:
        yield OTHERS, float(left)
