"""What a run shows about where its time went: the client's figures and the server's own series."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from forebay.measure.percentiles import percentile, percentiles
from forebay.measure.records import RequestRecord

_QUOTA = "quota"  # the code of such a 429


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSample:
    """The fleet at one second of a run, in its own words; None is what it did not tell.

    Sums over all replicas, except for `kv_usage`, which is their mean, and `emulation_late`, the
    worst.

    Attributes:
        t: seconds since the start of the run.
        queued_requests: admitted, no first token yet.
        queued_tokens: prompt tokens of them.
        running: sequences running.
        slots: sequences that can run at once, over all replicas.
        kv_usage: share of KV blocks in use, 0 to 1.
        shed_per_s: requests that the server refused.
        preemptions_per_s: sequences put back for want of KV blocks.
        prompt_tokens_per_s, output_tokens_per_s: tokens taken in and generated.
        cached_tokens_per_s: prompt tokens found in the prefix cache.
        emulation_late: of emulated engines: p99 lateness of their steps, in steps.
    """

    t: float
    queued_requests: float | None = None
    queued_tokens: float | None = None
    running: float | None = None
    slots: float | None = None
    kv_usage: float | None = None
    shed_per_s: float | None = None
    preemptions_per_s: float | None = None
    prompt_tokens_per_s: float | None = None
    output_tokens_per_s: float | None = None
    cached_tokens_per_s: float | None = None
    emulation_late: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One run, or its heaviest stage. Latencies are seconds.

    Attributes:
        slo_ttft_s, slo_tpot_s: what a good request meets; no TPOT is asked of it when None.
        valid: whether the client may be believed.
        invalid_because: why not.
        offered: requests.
        offered_per_s: of them, per second.
        good: finished within every SLO.
        shed: refused for load, or a tenant's quota;
        over_quota: of them, the latter, as Forebay says: that is no lack of engines.
        failed: served wrongly or not at all (`records.FAILURES`).
        left: cancelled by their clients, or in flight when the run was stopped.
        unconnected: of the failed, those whose connection was refused, or closed unanswered.
        no_socket: of the failed, those for which the client's machine had no socket.
        ttft_p99, tpot_p50, tpot_p99: None where nothing was measured.
        client_lag_p99_s: the client's own lateness.
        server: the server's series; may be empty, or lack whole columns.
        max_num_seqs: sequences that can run at once, over all replicas.
    """

    slo_ttft_s: float
    slo_tpot_s: float | None = None
    valid: bool = True
    invalid_because: str = ""
    offered: int = 0
    offered_per_s: float = 0.0
    good: int = 0
    shed: int = 0
    over_quota: int = 0
    failed: int = 0
    left: int = 0
    unconnected: int = 0
    no_socket: int = 0
    ttft_p99: float | None = None
    tpot_p50: float | None = None
    tpot_p99: float | None = None
    client_lag_p99_s: float | None = None
    server: Sequence[ServerSample] = ()
    max_num_seqs: int | None = None

    @property
    def judged(self) -> int:
        """Requests that could have been good: those that their client waited for, and might ask."""
        return self.offered - self.left - self.over_quota

    @property
    def kept(self) -> bool:
        """Whether at least 99 % of what could be good was: the SLOs speak of the p99."""
        return self.judged > 0 and self.good >= 0.99 * self.judged


def gather_evidence(
    records: Sequence[RequestRecord],
    *,
    duration_s: float,
    slo_ttft_s: float,
    slo_tpot_s: float | None = None,
    valid: bool = True,
    invalid_because: str = "",
    server: Sequence[ServerSample] = (),
    max_num_seqs: int | None = None,
    stages: Sequence[tuple[float, float]] = (),
) -> Evidence:
    """What is known of a run of ``duration_s`` seconds, or of its heaviest stage.

    Quiet stages around the heaviest one would dilute its figures. ``stages`` are their starts and
    ends in seconds; the heaviest is that with the most requests per second, the earliest of equals.

    Raises:
        ValueError: when a stage, or the run, does not last.
    """
    start, end = _heaviest(records, [*stages] or [(0.0, duration_s)])
    part = [r for r in records if start <= r.intended_s < end] if stages else records
    outcomes = Counter(record.outcome for record in part)
    tpot_p50, tpot_p99 = percentiles([r.tpot for r in part if r.tpot is not None], (50, 99))
    return Evidence(
        slo_ttft_s=slo_ttft_s,
        slo_tpot_s=slo_tpot_s,
        valid=valid,
        invalid_because=invalid_because,
        offered=len(part),
        offered_per_s=len(part) / (end - start),
        good=sum(record.is_good(slo_ttft_s, slo_tpot_s) for record in part),
        shed=outcomes["shed"],
        over_quota=sum(r.outcome == "shed" and r.reason == _QUOTA for r in part),
        failed=sum(record.failure for record in part),
        left=outcomes["cancelled"] + outcomes["stopped"],
        unconnected=outcomes["refused_connection"] + outcomes["dropped"],
        no_socket=outcomes["no_socket"],
        ttft_p99=percentile([r.ttft for r in part if r.ttft is not None], 99),
        tpot_p50=tpot_p50,
        tpot_p99=tpot_p99,
        client_lag_p99_s=percentile([record.client_lag for record in part], 99),
        server=[sample for sample in server if start <= sample.t < end],
        max_num_seqs=max_num_seqs,
    )


def _heaviest(
    records: Sequence[RequestRecord], spans: Sequence[tuple[float, float]]
) -> tuple[float, float]:
    """The span with the most requests per second."""
    for start, end in spans:
        if not end > start:
            raise ValueError(f"nothing lies between second {start} and second {end}")
    at = sorted(record.intended_s for record in records)

    def rate(span: tuple[float, float]) -> float:
        start, end = span
        return (bisect_left(at, end) - bisect_left(at, start)) / (end - start)

    return max(spans, key=rate)
