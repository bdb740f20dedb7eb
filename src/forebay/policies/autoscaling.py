"""One second of autoscaling: readings in, a target and the reason for it out.

Meter, policy and limits in their order, so that a fleet in production, in emulation and in a replay
of recorded readings decides alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forebay.policies.demand_meter import DemandMeter, ReplicaReading
from forebay.policies.scaling import (
    Capacity,
    Observation,
    ScalingConfig,
    ScalingState,
    Wanted,
    want,
)
from forebay.policies.scaling_limits import Allowed, LimitConfig, LimitState, allow


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRecord:
    """A decision and what led to it.

    Attributes:
        at: seconds on the caller's clock.
        before: replicas asked for until then.
        ready: replicas that served.
        target: replicas asked for from then on.
        allowed: the target with the limits that shaped it, and the replicas that `max` withholds.
        wanted: what the demand asked for; None where the fleet could not be seen.
        seen: what was observed; None as above.
    """

    at: float
    before: int
    ready: int
    allowed: Allowed
    wanted: Wanted | None
    seen: Observation | None

    @property
    def target(self) -> int:
        """Replicas asked for from then on."""
        return self.allowed.replicas

    def plain(self) -> dict[str, Any]:
        """Values for JSON."""
        return {**asdict(self), "target": self.target, "reason": self.reason}

    @property
    def reason(self) -> str:
        """The decision in words."""
        if self.wanted is None:
            text = "too few replicas report"
        else:
            text = f"{self.wanted.binding}: {self.wanted.ahead:.2f} replicas' work"
            if self.wanted.backlog:
                text += f" and {self.wanted.backlog:.2f} for the backlog"
            text += f" asks for {self.wanted.in_full}"
        if self.allowed.limits:
            text += f"; {self.target} by {', '.join(self.allowed.limits)}"
        if self.allowed.missing:
            text += f"; {self.allowed.missing} MISSING"
        return text


class Autoscaler:
    """A service's autoscaling over time. Pure but for the time given."""

    def __init__(
        self,
        config: ScalingConfig,
        limits: LimitConfig,
        declared: Capacity | None = None,
        cold_start_s: float = 60.0,
    ) -> None:
        """See `DemandMeter` for the last two."""
        self.config = config
        self.limits = limits
        self.meter = DemandMeter(declared, cold_start_s)
        self._policy = ScalingState()
        self._limits = LimitState()

    def decide(
        self,
        readings: Mapping[str, ReplicaReading],
        ready: Collection[str],
        target: int,
        now: float,
        floors: Sequence[int] = (),
    ) -> ScalingRecord:
        """The decision at `now`, in seconds of a clock that never goes back."""
        seen = self.meter.read(readings, ready, target, now)
        wanted: Wanted | None = None
        if seen is not None:
            wanted, self._policy = want(self.config, seen, self._policy, now)
        allowed, self._limits = allow(self.limits, wanted, target, self._limits, now, floors)
        return ScalingRecord(
            at=now, before=target, ready=len(ready), allowed=allowed, wanted=wanted, seen=seen
        )

    def __repr__(self) -> str:
        return f"<Autoscaler {self._policy.history!r}>"
