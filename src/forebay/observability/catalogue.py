"""Every metric of a replica, named once: code, dashboards, alerts and docs read this.

The fleet's are in `fleet_metrics.py`.

Ray's metrics agent puts `ray_` in front of each name in the Prometheus exposition, and `_total`
behind a counter's; docs/reference/metrics.md is generated from here.
"""

from __future__ import annotations

from forebay.observability.metric import Metric

# Seconds. Dense where the default SLO (1 s) lies, so that a p99 near it can be read off.
_TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_TPOT_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


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
