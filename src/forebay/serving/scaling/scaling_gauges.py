"""Scaling as metrics, set by Serve's controller once a second."""

from __future__ import annotations

from typing import Any

from forebay.observability import fleet_metrics
from forebay.observability.metric import Metric
from forebay.policies.scaling import LIMITS, ScalingRecord


def gauges(record: ScalingRecord) -> dict[tuple[Metric, str], float]:
    """The values after a decision, by metric and label (empty where it has none).

    What could not be seen is left as it was.
    """
    found: dict[tuple[Metric, str], float] = {
        (fleet_metrics.REPLICAS_TARGET, ""): record.target,
        (fleet_metrics.REPLICAS_READY, ""): record.ready,
        (fleet_metrics.REPLICAS_MISSING, ""): record.allowed.missing,
        (fleet_metrics.REPLICAS_OVERDUE, ""): record.overdue,
        (fleet_metrics.COLD_START, ""): record.cold_start.mean_s,
        **{(fleet_metrics.SCALING_LIMITED, one): one in record.allowed.limits for one in LIMITS},
    }
    if record.wanted is not None:
        need = record.wanted.need
        found[fleet_metrics.REPLICAS_WANTED, ""] = record.wanted.in_full
        found |= {
            (fleet_metrics.REPLICA_DEMAND, "prefill"): need.prefill,
            (fleet_metrics.REPLICA_DEMAND, "decode"): need.decode,
            (fleet_metrics.REPLICA_DEMAND, "kv"): need.kv,
            (fleet_metrics.REPLICA_DEMAND, "backlog"): record.wanted.backlog,
            (fleet_metrics.REPLICA_DEMAND, "forecast"): record.wanted.ahead,
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
