"""Every metric Forebay exports, named once: code, dashboards, alerts and docs read this.

Ray's metrics agent puts `ray_` in front of each name in the Prometheus exposition, and `_total`
behind a counter's; docs/reference/metrics.md is generated from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

# Seconds. Dense where the default SLO (1 s) lies, so that a p99 near it can be read off.
_TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_TPOT_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


# Compared by identity: each request looks some ten up, and to hash every field and bucket bound for
# that took a tenth of the gate's time.
@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One metric: its name without prefix, kind, meaning with unit, labels, bucket bounds."""

    name: str
    kind: Kind
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def exposed(self) -> str:
        """Its name in the Prometheus exposition; a histogram's series add to it."""
        return f"ray_{self.name}_total" if self.kind == "counter" else f"ray_{self.name}"


OFFERED = Metric(
    "forebay_requests_offered", "counter", "Well-formed requests to the engine.", ("class",)
)
RETRIED = Metric(
    "forebay_requests_retried", "counter", "Offered again after a refusal.", ("class",)
)
ADMITTED = Metric("forebay_requests_admitted", "counter", "Requests admitted.", ("class",))
SHED = Metric("forebay_requests_shed", "counter", "Requests refused.", ("class", "reason"))
FINISHED = Metric(
    "forebay_requests_finished", "counter", "Admitted requests that ended.", ("class", "outcome")
)
PROMPT_TOKENS = Metric("forebay_prompt_tokens", "counter", "Prompt tokens of started sequences.")
CACHED_TOKENS = Metric(
    "forebay_cached_prompt_tokens", "counter", "Prompt tokens found in the prefix cache."
)
OUTPUT_TOKENS = Metric("forebay_output_tokens", "counter", "Tokens generated.")
TENANT_TOKENS = Metric(
    "forebay_tenant_tokens",
    "counter",
    "Tokens that tenants used, prompts and answers together.",
    ("tenant",),
)
QUEUED = Metric("forebay_queued_requests", "gauge", "Sequences admitted, no first token yet.")
HELD = Metric(
    "forebay_held_requests",
    "gauge",
    "Those of the queued that wait at the gate, not in the engine.",
)
QUEUED_TOKENS = Metric("forebay_queued_tokens", "gauge", "Prompt tokens queued.")
RUNNING = Metric("forebay_running_requests", "gauge", "Sequences after their first token.")
SLOTS = Metric("forebay_sequence_slots", "gauge", "Sequences that can run at once.")
KV_USAGE = Metric("forebay_kv_usage_ratio", "gauge", "Share of KV blocks in use, 0 to 1.")
EMULATION_LATE = Metric(
    "forebay_emulation_late_ratio",
    "gauge",
    "Lateness of an emulated engine's steps at p99, in steps; only where engines are emulated.",
)
PREFILL_RATE = Metric(
    "forebay_prefill_rate",
    "gauge",
    "Drain rate of queued prompt tokens as admission reckons, tokens/s.",
)
PREDICTED = Metric(
    "forebay_predicted_ttft_seconds",
    "histogram",
    "TTFT predicted at admission.",
    ("class",),
    _TTFT_BUCKETS,
)
TTFT = Metric(
    "forebay_ttft_seconds",
    "histogram",
    "Arrival at the gate to first token.",
    ("class",),
    _TTFT_BUCKETS,
)
TPOT = Metric(
    "forebay_tpot_seconds",
    "histogram",
    "Time per output token after the first.",
    ("class",),
    _TPOT_BUCKETS,
)

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

# Of the fleet as one, set by whoever decides on its size.
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

# Of each replica.
CATALOGUE: tuple[Metric, ...] = (
    OFFERED,
    RETRIED,
    ADMITTED,
    SHED,
    FINISHED,
    PROMPT_TOKENS,
    CACHED_TOKENS,
    OUTPUT_TOKENS,
    TENANT_TOKENS,
    QUEUED,
    HELD,
    QUEUED_TOKENS,
    RUNNING,
    SLOTS,
    KV_USAGE,
    PREFILL_RATE,
    EMULATION_LATE,
    PREDICTED,
    TTFT,
    TPOT,
)
