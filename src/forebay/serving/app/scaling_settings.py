"""What Serve is told of a service's scaling, from its file."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from forebay.policies.scaling import Recurrence
from forebay.serving.names import SCALING_PERIOD_S
from forebay.spec.service import FloorSpec, ServiceSpec, declared_capacity, scaling_policy

# Serve wraps every policy in limits of its own, which know nothing of ours: growth is believed only
# when each of the calls of 30 s, ten a second, has asked for it, and ours decides once a second. A
# policy that has its own limits is passed on at once and in full.
_SERVES_LIMITS_OFF = {
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 0.0,
    "downscale_to_zero_delay_s": 0.0,
    "upscaling_factor": 1.0,
    "downscaling_factor": 1.0,
}


def autoscaling_config(spec: ServiceSpec) -> dict[str, Any]:
    """Serve's `autoscaling_config` for a spec with room between `min` and `max`."""
    from ray.serve.config import AutoscalingPolicy

    scaling = spec.scaling
    policy, limits = scaling_policy(spec)
    declared = declared_capacity(spec)
    settings = {
        "service": spec.name,
        "min": limits.min,
        "max": limits.max,
        "headroom": policy.headroom,
        "stable_s": limits.stable_s,
        "cold_start_s": scaling.cold_start,
        "tolerated_s": policy.tolerated_s,
        "capacity": None if declared is None else (declared.prefill, declared.decode),
        "schedule": [_sent(floor) for floor in scaling.schedule],
    }
    return {
        "min_replicas": scaling.min,
        "max_replicas": scaling.max,
        # A fleet that may be of none still starts with one: it shows that the file works, and how
        # long a start takes.
        "initial_replicas": max(scaling.min, 1),
        **_SERVES_LIMITS_OFF,
        "metrics_interval_s": SCALING_PERIOD_S,
        "look_back_period_s": 5 * SCALING_PERIOD_S,
        "policy": AutoscalingPolicy(
            policy_function="forebay.serving.scaling.scaling_policy:ForebayScaling",
            policy_kwargs={"settings": settings},
        ),
    }


def _sent(floor: FloorSpec) -> dict[str, Any]:
    """An entry of the schedule as plain values, which the controller reads without the spec."""
    entry = floor.entry()
    return asdict(entry) | ({"zone": floor.zone} if isinstance(entry, Recurrence) else {})
