"""Scaling as metrics, set by Serve's controller once a second."""

from __future__ import annotations

from typing import Any

from forebay.observability import catalogue
from forebay.observability.catalogue import Metric
from forebay.policies.autoscaling import ScalingRecord
from forebay.policies.scaling_limits import LIMITS


def gauges(record: ScalingRecord) -> dict[tuple[Metric, str], float]:
    """The values after a decision, by metric and label (empty where it has none).

    What could not be seen is left as it was.
    """
    found: dict[tuple[Metric, str], float] = {
        (catalogue.REPLICAS_TARGET, ""): record.target,
        (catalogue.REPLICAS_READY, ""): record.ready,
        (catalogue.REPLICAS_MISSING, ""): record.allowed.missing,
        (catalogue.REPLICAS_OVERDUE, ""): record.overdue,
        (catalogue.COLD_START, ""): record.cold_start.mean_s,
        **{(catalogue.SCALING_LIMITED, one): one in record.allowed.limits for one in LIMITS},
    }
    if record.wanted is not None:
        need = record.wanted.need
        found[catalogue.REPLICAS_WANTED, ""] = record.wanted.in_full
        found |= {
            (catalogue.REPLICA_DEMAND, "prefill"): need.prefill,
            (catalogue.REPLICA_DEMAND, "decode"): need.decode,
            (catalogue.REPLICA_DEMAND, "kv"): need.kv,
            (catalogue.REPLICA_DEMAND, "backlog"): record.wanted.backlog,
            (catalogue.REPLICA_DEMAND, "forecast"): record.wanted.ahead,
        }
    return found


class ScalingGauges:
    """Ray's gauges of one service; made with the first decision, in the process that decides."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._made: dict[Metric, Any] = {}

    def set(self, record: ScalingRecord) -> None:
        """Show a decision."""
        for (metric, label), value in gauges(record).items():
            tags = dict(zip(metric.labels, (label,), strict=False))
            self._gauge(metric).set(value, tags=tags)

    def _gauge(self, metric: Metric) -> Any:
        if metric not in self._made:
            from ray.util.metrics import Gauge

            made = Gauge(metric.name, metric.description, (*metric.labels, "service"))
            made.set_default_tags({"service": self._service})
            self._made[metric] = made
        return self._made[metric]
