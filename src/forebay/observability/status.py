"""The state of a fleet as `/forebay/status` tells it and `forebay top` shows it.

A replica publishes its own state (`ReplicaStatus`) to the routers twice a second; whoever asks for
the fleet's gets the last of each, and what can be added up, added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

SCHEMA = 1


class ClassStatus(TypedDict):
    """One class on one replica. Counts are since the replica's start.

    Attributes:
        offered, retried, admitted, finished: requests.
        shed: refused requests by reason.
        queued, running: sequences now.
        held: those of the queued that wait at the gate, not in the engine.
        queued_tokens: prompt tokens now waiting.
        predicted_ttft_s: of a small request arriving now, from the tenant that asks for most.
        budget_s: what is promised.
    """

    offered: float
    retried: float
    admitted: float
    finished: float
    shed: dict[str, float]
    queued: int
    held: int
    running: int
    queued_tokens: int
    predicted_ttft_s: float
    budget_s: float


class ReplicaStatus(TypedDict):
    """One replica.

    Attributes:
        replica: its id.
        at_s: when it told this, in seconds on a clock of its own that never goes back: growth of
            its counts over growth of this is a rate.
        draining: whether it takes nothing new.
        apart: whether the fleet's ledger does not answer it: quotas are even shares then, and
            weights hold on each replica by itself.
        classes: by name.
        tenants: tokens by tenant since the replica's start, prompt and answer together.
        prefill_rate: prompt tokens/s that it drains, as admission reckons; 0 while unknown.
        seconds_per_token: of one running sequence now.
        slots, kv_tokens: its limits.
        kv_usage: share of KV tokens held, 0 to 1.
        prompt_tokens, cached_tokens, output_tokens: since its start.
        ttft_p50_s, ttft_p99_s: of the last 10 s; None without first tokens.
        prediction_error, prediction_bias: of the last predicted TTFTs: median relative error, and
            mean prediction over mean truth less 1; None before the first.
        late_p99: of an emulated engine: how late its last steps were, in steps; None for a real
            one.
        late_p99_so_far: how late all of them were.
        start_s: seconds of each phase of its start (`serving.start_clock.PHASES`), those past.
    """

    replica: str
    at_s: float
    draining: bool
    apart: bool
    classes: dict[str, ClassStatus]
    tenants: dict[str, float]
    prefill_rate: float
    seconds_per_token: float
    slots: int
    kv_tokens: int
    kv_usage: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    prediction_error: float | None
    prediction_bias: float | None
    late_p99: float | None
    late_p99_so_far: float | None
    start_s: dict[str, float]


_ADDED = (
    "offered",
    "retried",
    "admitted",
    "finished",
    "queued",
    "held",
    "running",
    "queued_tokens",
)


def fleet_status(
    service: str,
    replicas: Sequence[ReplicaStatus],
    scaling: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What `/forebay/status` answers.

    Returns:
        `schema`, `service`, `replicas` (each a `ReplicaStatus`), `tenants` (by name, `tokens` and
        `share`), `scaling` (the last decisions, oldest first: `policies.autoscaling.ScalingRecord`;
        empty where the size is fixed), `missing` (replicas that the demand asks for and
        `scaling.max` withholds), and `classes`: by name, a `ClassStatus` of counts added up
        over the replicas, but for `predicted_ttft_s`, of which there are the `least` and the
        `most`, and `budget_s`.
    """
    names = sorted({name for replica in replicas for name in replica["classes"]})
    tenants: Counter[str] = Counter()
    for replica in replicas:
        tenants.update(replica["tenants"])
    return {
        "schema": SCHEMA,
        "service": service,
        "classes": {name: _class_total(_of_class(replicas, name)) for name in names},
        "tenants": shares(tenants),
        "replicas": list(replicas),
        "scaling": list(scaling),
        "missing": scaling[-1]["allowed"]["missing"] if scaling else 0,
    }


def shares(tokens: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Each tenant's tokens and its share of all."""
    total = sum(tokens.values())
    return {
        name: {"tokens": count, "share": count / total if total else 0.0}
        for name, count in sorted(tokens.items())
    }


def _of_class(replicas: Sequence[ReplicaStatus], name: str) -> list[ClassStatus]:
    return [replica["classes"][name] for replica in replicas if name in replica["classes"]]


def _class_total(parts: Sequence[ClassStatus]) -> dict[str, Any]:
    """Counts added up; the least and the largest prediction, since they cannot be."""
    shed: Counter[str] = Counter()
    for part in parts:
        shed.update(part["shed"])
    predicted = [part["predicted_ttft_s"] for part in parts]
    return {
        **{key: sum(part[key] for part in parts) for key in _ADDED},  # type: ignore[literal-required]
        "shed": dict(sorted(shed.items())),
        "predicted_ttft_s": {"least": min(predicted), "most": max(predicted)},
        "budget_s": max(part["budget_s"] for part in parts),
    }
