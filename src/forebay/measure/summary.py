"""What a run amounted to: counts, rates, latencies, and whether it may be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forebay.measure.percentiles import adjusted_percentile, percentiles
from forebay.measure.records import RequestRecord

# Beyond this the client's own lateness is a visible part of a 1 s TTFT, and grows with load.
MAX_CLIENT_LAG_S = 0.020


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One run, or one stage of it. Latencies are seconds, rates are per second of `duration_s`.

    Attributes:
        duration_s: seconds during which requests were offered.
        offered: requests that the schedule sent or tried to send.
        sent: of them, those that reached a connection.
        admitted: of them, those neither shed nor answered with an HTTP error.
        shed: refused for load.
        failed: everything that is neither ok nor shed (failed, cut, timeout, no connection).
        good: finished within every SLO.
        errors_in_stream: an error inside a response already begun with 200.
        offered_per_s, admitted_per_s, shed_per_s, goodput_per_s: requests.
        tokens_per_s: output tokens.
        ttft_p50, ttft_p95, ttft_p99: of every request that got a first token.
        ttft_adjusted_p99: of all that was not shed, a failure counting as +infinity.
        tpot_p50, tpot_p99: of requests with two tokens or more.
        e2e_p50, e2e_p99: of finished requests.
        refusal_p50, refusal_p99: from the intended send to the end of a refusal.
        client_lag_p50, client_lag_p99, client_lag_max: the client's own lateness.
        valid: whether the run may be believed.
        validity_reason: why, or why not.
    """

    duration_s: float
    offered: int
    sent: int
    admitted: int
    shed: int
    failed: int
    good: int
    errors_in_stream: int
    offered_per_s: float
    admitted_per_s: float
    shed_per_s: float
    goodput_per_s: float
    tokens_per_s: float
    ttft_p50: float | None
    ttft_p95: float | None
    ttft_p99: float | None
    ttft_adjusted_p99: float | None
    tpot_p50: float | None
    tpot_p99: float | None
    e2e_p50: float | None
    e2e_p99: float | None
    refusal_p50: float | None
    refusal_p99: float | None
    client_lag_p50: float | None
    client_lag_p99: float | None
    client_lag_max: float | None
    valid: bool
    validity_reason: str

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
) -> Summary:
    """Sums up what was offered in ``duration_s`` seconds, judged by SLOs in seconds.

    Raises:
        ValueError: when ``duration_s`` is not above 0.
    """
    if not duration_s > 0:
        raise ValueError(f"a run lasts longer than {duration_s} s")
    shed = [r for r in records if r.outcome == "shed"]
    finished = [r for r in records if r.outcome == "ok"]
    admitted = sum(r.admitted for r in records)
    good = sum(r.is_good(slo_ttft, slo_tpot) for r in records)
    ttfts = [r.ttft for r in records if r.ttft is not None]
    ttft_p50, ttft_p95, ttft_p99 = percentiles(ttfts, (50, 95, 99))
    tpot_p50, tpot_p99 = percentiles([r.tpot for r in records if r.tpot is not None], (50, 99))
    e2e_p50, e2e_p99 = percentiles([r.e2e for r in finished], (50, 99))
    refusal_p50, refusal_p99 = percentiles([r.e2e for r in shed], (50, 99))
    lag_p50, lag_p99, lag_max = percentiles([r.client_lag for r in records], (50, 99, 100))
    valid, validity_reason = _validity(lag_p99)
    return Summary(
        duration_s=duration_s,
        offered=len(records),
        sent=sum(r.outcome != "refused_connection" for r in records),
        admitted=admitted,
        shed=len(shed),
        failed=len(records) - len(shed) - len(finished),
        good=good,
        errors_in_stream=sum(r.error_in_stream for r in records),
        offered_per_s=len(records) / duration_s,
        admitted_per_s=admitted / duration_s,
        shed_per_s=len(shed) / duration_s,
        goodput_per_s=good / duration_s,
        tokens_per_s=sum(r.tokens_out for r in records) / duration_s,
        ttft_p50=ttft_p50,
        ttft_p95=ttft_p95,
        ttft_p99=ttft_p99,
        ttft_adjusted_p99=_adjusted_p99(records),
        tpot_p50=tpot_p50,
        tpot_p99=tpot_p99,
        e2e_p50=e2e_p50,
        e2e_p99=e2e_p99,
        refusal_p50=refusal_p50,
        refusal_p99=refusal_p99,
        client_lag_p50=lag_p50,
        client_lag_p99=lag_p99,
        client_lag_max=lag_max,
        valid=valid,
        validity_reason=validity_reason,
    )


def _adjusted_p99(records: Sequence[RequestRecord]) -> float | None:
    """TTFT p99 of all that was not shed; +infinity when over 1 % of it failed.

    A request cut after its first token counts as failed: its user did not get an answer.
    """
    kept = [r for r in records if r.outcome != "shed"]
    answered = [r.ttft for r in kept if r.outcome == "ok" and r.ttft is not None]
    return adjusted_percentile(answered, len(kept) - len(answered), 99)


def _validity(lag_p99: float | None) -> tuple[bool, str]:
    """Whether the client kept its schedule well enough for its figures to be the server's."""
    if lag_p99 is None:
        return False, "nothing was sent"
    shown = f"client lag p99 {lag_p99 * 1000:.1f} ms"
    if math.isnan(lag_p99) or lag_p99 > MAX_CLIENT_LAG_S:
        return False, f"{shown} is above {MAX_CLIENT_LAG_S * 1000:.0f} ms: the client was late"
    return True, f"{shown} is within {MAX_CLIENT_LAG_S * 1000:.0f} ms"
