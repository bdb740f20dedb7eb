"""What a run says about itself while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forebay.measure import RequestRecord
from forebay.measure.percentiles import percentiles


@dataclass(frozen=True, slots=True)
class Progress:
    """A run's state at one moment. Counts are since its start.

    Attributes:
        t: seconds since the start.
        offered: requests sent or tried.
        in_flight: sent and not yet ended.
        ok, shed, failed: ended so; neither those left by their clients nor those stopped.
        tokens: tokens received by requests that ended.
        ttft_p50, ttft_p99: seconds, over the requests that ended since the last report.
        lag_p99: the client's own lateness in seconds, over the same requests.
    """

    t: float
    offered: int
    in_flight: int
    ok: int
    shed: int
    failed: int
    tokens: int
    ttft_p50: float | None
    ttft_p99: float | None
    lag_p99: float | None


class ProgressMeter:
    """Turns ended records into `Progress` reports."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._failed = 0
        self._tokens = 0
        self._recent: list[RequestRecord] = []

    def ended(self, record: RequestRecord) -> None:
        """Counts one more ended request."""
        self._outcomes[record.outcome] += 1
        self._failed += record.failure
        self._tokens += record.tokens_out
        self._recent.append(record)

    def report(self, t: float, offered: int, in_flight: int) -> Progress:
        """The state at ``t``; percentiles cover what ended since the last report."""
        recent, self._recent = self._recent, []
        p50, p99 = percentiles([r.ttft for r in recent if r.ttft is not None], (50, 99))
        (lag,) = percentiles([r.client_lag for r in recent], (99,))
        ok, shed = self._outcomes["ok"], self._outcomes["shed"]
        return Progress(t, offered, in_flight, ok, shed, self._failed, self._tokens, p50, p99, lag)


def together(parts: Sequence[Progress]) -> Progress:
    """Several workers' progress as one; percentiles are those of the worst of them."""
    return Progress(
        t=max(part.t for part in parts),
        offered=sum(part.offered for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        ok=sum(part.ok for part in parts),
        shed=sum(part.shed for part in parts),
        failed=sum(part.failed for part in parts),
        tokens=sum(part.tokens for part in parts),
        ttft_p50=_worst(part.ttft_p50 for part in parts),
        ttft_p99=_worst(part.ttft_p99 for part in parts),
        lag_p99=_worst(part.lag_p99 for part in parts),
    )


def _worst(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
