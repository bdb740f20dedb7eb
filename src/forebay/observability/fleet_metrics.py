"""Every metric of the fleet as one, set by whoever decides on its size.

Serve's controller is who decides, so what stands here stands apart from `catalogue.py`.
"""

from __future__ import annotations

from forebay.observability.metric import Metric

REPLICAS_WANTED = Metric(
    "forebay_replicas_wanted", "gauge", "Replicas that the demand asks for, before any limit."
)
REPLICAS_TARGET = Metric("forebay_replicas_target", "gauge", "Replicas asked for.")
REPLICAS_READY = Metric("forebay_replicas_ready", "gauge", "Replicas that serve.")
REPLICAS_MISSING = Metric(
    "forebay_replicas_missing", "gauge", "Replicas that scaling.max withholds from the demand."
)
REPLICAS_OVERDUE = Metric(
    "forebay_replicas_overdue",
    "gauge",
    "Replicas asked for that have not started in three times the longest start seen.",
)
REPLICA_DEMAND = Metric(
    "forebay_replica_demand",
    "gauge",
    "Replicas that each part of the demand would keep busy: prefill, decode, kv, backlog, and all "
    "of it as expected after a cold start (forecast).",
    ("kind",),
)
SCALING_LIMITED = Metric(
    "forebay_scaling_limited",
    "gauge",
    "1 while this limit shapes the number of replicas: blind, stabilisation, step, woken, floor, "
    "min or max; else 0.",
    ("limit",),
)
COLD_START = Metric(
    "forebay_cold_start_seconds",
    "gauge",
    "From asking for a replica until it serves, mean of the last starts.",
)

OF_THE_FLEET: tuple[Metric, ...] = (
    REPLICAS_WANTED,
    REPLICAS_TARGET,
    REPLICAS_READY,
    REPLICAS_MISSING,
    REPLICAS_OVERDUE,
    REPLICA_DEMAND,
    SCALING_LIMITED,
    COLD_START,
)
