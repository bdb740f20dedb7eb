"""A service's scaling policy, as its file sets it."""

from __future__ import annotations

from forebay.policies.scaling import Capacity, LimitConfig, ScalingConfig
from forebay.spec.service.service_spec import ServiceSpec


def scaling_policy(spec: ServiceSpec) -> tuple[ScalingConfig, LimitConfig]:
    """The settings of the policy and of its limits."""
    scaling = spec.scaling
    return (
        ScalingConfig(headroom=scaling.headroom, tolerated_s=spec.ttft_budget("interactive") / 2),
        LimitConfig(scaling.min, scaling.max, stable_s=scaling.stable),
    )


def declared_capacity(spec: ServiceSpec) -> Capacity | None:
    """What the file says that a replica sustains, of the engine as it is slowed; None: learned."""
    capacity = spec.scaling.capacity
    if capacity is None:
        return None
    slowed = spec.model.slowed
    return Capacity.declared(capacity.prefill / slowed, capacity.decode / slowed)
