"""What a run, or a part of it, amounted to: counts, rates and latencies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forebay.measure.itl import token_gaps, weighted_percentiles
from forebay.measure.percentiles import adjusted_percentile, percentiles
from forebay.measure.records import OUTCOMES, RequestRecord
from forebay.measure.windows import tokens_within


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run, or one stage of it. Latencies are seconds, rates are per second of `duration_s`.

    Attributes:
        duration_s: seconds during which requests were offered.
        offered: requests that were asked; one asked again counts once.
        retried: further attempts at them.
        admitted: of them, those neither shed nor answered with an HTTP error.
        shed: refused for load.
        failed: served wrongly or not at all (`records.FAILURES`).
        cancelled: left by their own client.
        stopped: in flight when the run was ended.
        good: finished within every SLO.
        outcomes: requests by outcome; they add up to `offered`.
        offered_per_s, admitted_per_s, shed_per_s, goodput_per_s: requests.
        prompt_tokens: of requests that were admitted.
        output_tokens: that arrived, however late.
        cached_tokens: of the prompt tokens, found in the prefix cache; None where no server said.
        tokens_per_s: output tokens that arrived in those seconds.
        ttft_p50, ttft_p95, ttft_p99: of every request that got a first token.
        ttft_adjusted_p99: of all that was not shed, a failure counting as +infinity.
        tpot_p50, tpot_p95, tpot_p99: of requests with two tokens or more.
        itl_p50, itl_p99: of all gaps between tokens, where token times were kept.
        e2e_p50, e2e_p95, e2e_p99: of finished requests.
        refusal_p50, refusal_p99: from the intended send to the end of a refusal.
        client_lag_p50, client_lag_p99, client_lag_max: the client's own lateness.
    """

    duration_s: float
    offered: int
    retried: int
    admitted: int
    shed: int
    failed: int
    cancelled: int
    stopped: int
    good: int
    outcomes: dict[str, int]
    offered_per_s: float
    admitted_per_s: float
    shed_per_s: float
    goodput_per_s: float
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    tokens_per_s: float
    ttft_p50: float | None
    ttft_p95: float | None
    ttft_p99: float | None
    ttft_adjusted_p99: float | None
    tpot_p50: float | None
    tpot_p95: float | None
    tpot_p99: float | None
    itl_p50: float | None
    itl_p99: float | None
    e2e_p50: float | None
    e2e_p95: float | None
    e2e_p99: float | None
    refusal_p50: float | None
    refusal_p99: float | None
    client_lag_p50: float | None
    client_lag_p99: float | None
    client_lag_max: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no infinity: it becomes the string ``inf``."""
        return {
            name: "inf" if isinstance(value, float) and math.isinf(value) else value
            for name, value in asdict(self).items()
        }


def summarise(
    records: Sequence[RequestRecord],
    slo_ttft: float,
    slo_tpot: float | None,
    duration_s: float,
    tail: Sequence[RequestRecord] = (),
) -> Summary:
    """Sums up what was offered in the first ``duration_s`` seconds, judged by SLOs in seconds.

    Of the ``tail``, which a closed loop leaves in flight, only ``tokens_per_s`` takes notice.

    Raises:
        ValueError: when ``duration_s`` is not above 0.
    """
    if not duration_s > 0:
        raise ValueError(f"a run lasts longer than {duration_s} s")
    admitted = [r for r in records if r.admitted]
    good = sum(r.is_good(slo_ttft, slo_tpot) for r in records)
    shed = sum(r.outcome == "shed" for r in records)
    in_time = sum(tokens_within(r, 0.0, duration_s) for r in (*records, *tail))
    return Summary(
        duration_s=duration_s,
        offered=len(records),
        retried=sum(r.attempts - 1 for r in records),
        admitted=len(admitted),
        shed=shed,
        failed=sum(r.failure for r in records),
        cancelled=sum(r.outcome == "cancelled" for r in records),
        stopped=sum(r.outcome == "stopped" for r in records),
        good=good,
        outcomes=_outcomes(records),
        offered_per_s=len(records) / duration_s,
        admitted_per_s=len(admitted) / duration_s,
        shed_per_s=shed / duration_s,
        goodput_per_s=good / duration_s,
        prompt_tokens=sum(r.prompt_tokens for r in admitted),
        output_tokens=sum(r.tokens_out for r in records),
        cached_tokens=_cached(admitted),
        tokens_per_s=in_time / duration_s,
        **_latencies(records),
    )


def _latencies(records: Sequence[RequestRecord]) -> dict[str, float | None]:
    finished = [r.e2e for r in records if r.outcome == "ok"]
    refusals = [r.e2e for r in records if r.outcome == "shed"]
    gaps, weights = token_gaps(records)
    found = {
        **_named("ttft", (r.ttft for r in records if r.ttft is not None), (50, 95, 99)),
        **_named("tpot", (t for r in records if (t := r.tpot) is not None), (50, 95, 99)),
        **_named("e2e", finished, (50, 95, 99)),
        **_named("refusal", refusals, (50, 99)),
        **_named("client_lag", (r.client_lag for r in records), (50, 99, 100)),
    }
    found["client_lag_max"] = found.pop("client_lag_p100")
    found["ttft_adjusted_p99"] = _adjusted_p99(records)
    found["itl_p50"], found["itl_p99"] = weighted_percentiles(gaps, weights, (50, 99))
    return found


def _named(name: str, values: Iterable[float], qs: Sequence[int]) -> dict[str, float | None]:
    keys = [f"{name}_p{q}" for q in qs]
    return dict(zip(keys, percentiles(values, qs), strict=True))


def _outcomes(records: Sequence[RequestRecord]) -> dict[str, int]:
    counts = Counter(record.outcome for record in records)
    return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}


def _cached(admitted: Sequence[RequestRecord]) -> int | None:
    known = [r.cached_tokens for r in admitted if r.cached_tokens is not None]
    return sum(known) if known else None


def _adjusted_p99(records: Sequence[RequestRecord]) -> float | None:
    """TTFT p99 of what its client waited for and was not shed; +infinity when over 1 % failed.

    A request cut after its first token counts as failed: its user did not get an answer.
    """
    failures = sum(r.failure for r in records)
    answered = [r.ttft for r in records if r.outcome == "ok" and r.ttft is not None]
    return adjusted_percentile(answered, failures, 99)
