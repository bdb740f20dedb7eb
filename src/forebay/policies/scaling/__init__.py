"""How many replicas a demand needs, and when.

Serve's controller imports this room: it stays small.
"""

from forebay.policies.scaling.autoscaler import Autoscaler, ScalingRecord
from forebay.policies.scaling.demand_meter import ReplicaReading
from forebay.policies.scaling.floor_schedules import EARLY_S, FloorWindow, Recurrence, floors
from forebay.policies.scaling.scaling_limits import LIMITS, LimitConfig, LimitState, allow
from forebay.policies.scaling.sizing import (
    Capacity,
    ColdStart,
    Demand,
    Observation,
    ScalingConfig,
    ScalingState,
    need,
    want,
)

__all__ = [
    "EARLY_S",
    "LIMITS",
    "Autoscaler",
    "Capacity",
    "ColdStart",
    "Demand",
    "FloorWindow",
    "LimitConfig",
    "LimitState",
    "Observation",
    "Recurrence",
    "ReplicaReading",
    "ScalingConfig",
    "ScalingRecord",
    "ScalingState",
    "allow",
    "floors",
    "need",
    "want",
]
