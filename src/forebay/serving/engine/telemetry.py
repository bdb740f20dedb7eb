"""What the gate counts, held in plain numbers and flushed to a metrics backend once a second.

A Ray metric costs some ten microseconds a call, which at a thousand refusals a second would be a
noticeable share of a core; so counters add up here and only their growth is reported.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any, Protocol

from forebay.measure import PredictionQuality, percentile
from forebay.observability import catalogue
from forebay.observability.metric import Metric
from forebay.policies.request import Ticket

Labels = tuple[str, ...]
_RECENT = 512  # first tokens that the live line's percentiles look back on
_RECENT_S = 10.0


class Backend(Protocol):
    """Where metrics go; label values come in the order of the metric's labels."""

    def add(self, metric: Metric, labels: Labels, amount: float) -> None:
        """Raise a counter."""

    def set(self, metric: Metric, value: float) -> None:
        """Set a gauge."""

    def observe(self, metric: Metric, labels: Labels, values: list[float]) -> None:
        """Enter values into a histogram."""


class Telemetry:
    """Counts of one replica."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.totals: defaultdict[tuple[Metric, Labels], float] = defaultdict(float)
        self._flushed: defaultdict[tuple[Metric, Labels], float] = defaultdict(float)
        self._samples: dict[tuple[Metric, Labels], list[float]] = {}
        self._recent_ttft: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self.prediction = PredictionQuality()
        self._expected: dict[Ticket, float] = {}  # seconds, of those without a first token
        self.first_answer_at: float | None = None
        self.posts = 0  # requests that a router has sent here, whatever became of them

    def count(self, metric: Metric, *labels: str, amount: float = 1) -> None:
        """Raise a counter."""
        self.totals[metric, labels] += amount

    def sample(self, metric: Metric, label: str, value: float) -> None:
        """Enter a value in seconds into a histogram."""
        self._samples.setdefault((metric, (label,)), []).append(value)
        if metric is catalogue.TTFT:
            self._recent_ttft.append((self._clock(), value))

    def admitted(self, ticket: Ticket, expected_s: float) -> None:
        """A request is about to run; its first token is expected after so many seconds."""
        self.sample(catalogue.PREDICTED, ticket.class_name, ticket.asked_s + expected_s)
        self._expected[ticket] = expected_s

    def began(self, ticket: Ticket) -> None:
        """It has its first token: the first one of all ends the replica's start."""
        expected_s = self._expected.pop(ticket, None)
        if expected_s is None or ticket.first_token_at is None:
            return  # of the warm-up
        if self.first_answer_at is None:
            self.first_answer_at = ticket.first_token_at
        waited_s = ticket.first_token_at - ticket.admitted_at
        self.prediction.add(expected_s, waited_s)
        self.sample(catalogue.TTFT, ticket.class_name, ticket.asked_s + waited_s)

    def finished(self, ticket: Ticket, outcome: str) -> None:
        """It is over, however it ended."""
        self._expected.pop(ticket, None)
        self.count(catalogue.FINISHED, ticket.class_name, outcome)
        if ticket.tenant:
            self.count(catalogue.TENANT_TOKENS, ticket.tenant, amount=ticket.used_tokens)
        if ticket.first_token_at is None or len(ticket.sequences) > 1:
            return  # of several, some may have waited for the slots of the others
        later = ticket.sequences[0].produced - 1
        if outcome == "ok" and later > 0 and ticket.last_token_at is not None:
            tpot_s = (ticket.last_token_at - ticket.first_token_at) / later
            self.sample(catalogue.TPOT, ticket.class_name, tpot_s)

    def total(self, metric: Metric) -> float:
        """A counter's total over all labels."""
        return sum(value for (key, _), value in self.totals.items() if key is metric)

    def total_of(self, metric: Metric, first: str) -> float:
        """A counter's total over the labels that begin with `first`."""
        return sum(
            value
            for (key, labels), value in self.totals.items()
            if key is metric and labels[0] == first
        )

    def by_first_label(self, metric: Metric) -> dict[str, float]:
        """A counter by its first label."""
        found: defaultdict[str, float] = defaultdict(float)
        for (key, labels), value in self.totals.items():
            if key is metric:
                found[labels[0]] += value
        return dict(found)

    def by_second_label(self, metric: Metric, first: str) -> dict[str, float]:
        """A counter of two labels under one value of the first, by the second."""
        return {
            labels[1]: value
            for (key, labels), value in self.totals.items()
            if key is metric and labels[0] == first
        }

    def recent_ttft(self) -> dict[str, float | None]:
        """TTFT p50 and p99 in seconds over the last ten seconds; None without first tokens."""
        since = self._clock() - _RECENT_S
        values = [value for at, value in self._recent_ttft if at >= since]
        if not values:
            return {"ttft_p50": None, "ttft_p99": None}
        return {"ttft_p50": percentile(values, 50), "ttft_p99": percentile(values, 99)}

    def forget(self) -> None:
        """What was counted so far was nobody's traffic."""
        self.totals.clear()
        self._flushed.clear()
        self._samples.clear()
        self._recent_ttft.clear()

    def flush(self, backend: Backend, gauges: dict[Metric, float]) -> None:
        """Report what was counted since the last flush."""
        for (metric, labels), value in self.totals.items():
            growth = value - self._flushed[metric, labels]
            if growth:
                backend.add(metric, labels, growth)
                self._flushed[metric, labels] = value
        samples, self._samples = self._samples, {}
        for (metric, labels), values in samples.items():
            backend.observe(metric, labels, values)
        for metric, value in gauges.items():
            backend.set(metric, value)


class RayBackend:
    """Ray's metrics, which its agent on every node exposes to Prometheus."""

    def __init__(self, constant_tags: dict[str, str]) -> None:
        """Register the catalogue; `constant_tags` name this replica."""
        from ray.util import metrics

        makers = {"counter": metrics.Counter, "gauge": metrics.Gauge}
        self._metrics: dict[Metric, Any] = {}
        for metric in catalogue.CATALOGUE:
            keys = (*metric.labels, *constant_tags)
            if metric.kind == "histogram":
                made = metrics.Histogram(
                    metric.name,
                    description=metric.description,
                    boundaries=list(metric.buckets),
                    tag_keys=keys,
                )
            else:
                made = makers[metric.kind](
                    metric.name, description=metric.description, tag_keys=keys
                )
            made.set_default_tags(constant_tags)
            self._metrics[metric] = made

    def add(self, metric: Metric, labels: Labels, amount: float) -> None:
        """Raise a counter."""
        self._metrics[metric].inc(amount, tags=dict(zip(metric.labels, labels, strict=True)))

    def set(self, metric: Metric, value: float) -> None:
        """Set a gauge."""
        self._metrics[metric].set(value)

    def observe(self, metric: Metric, labels: Labels, values: list[float]) -> None:
        """Enter values into a histogram."""
        tags = dict(zip(metric.labels, labels, strict=True))
        for value in values:
            self._metrics[metric].observe(value, tags=tags)


def replica_name() -> str:
    """What Serve calls this process's replica; only within one."""
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)
