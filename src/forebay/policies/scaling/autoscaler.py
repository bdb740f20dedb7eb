"""One second of autoscaling: readings in, a target and the reason for it out.

Meter, policy and limits in their order, so that a fleet in production, in emulation and in a replay
of recorded readings decides alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forebay.policies.scaling.demand_meter import DemandMeter, ReplicaReading
from forebay.policies.scaling.scaling_limits import Allowed, LimitConfig, LimitState, allow
from forebay.policies.scaling.sizing import (
    Capacity,
    ColdStart,
    Observation,
    ScalingConfig,
    ScalingState,
    Wanted,
    want,
)


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
        cold_start: of one replica, as far as it is known.
        overdue: replicas that should have started long ago and have not.
    """

    at: float
    before: int
    ready: int
    allowed: Allowed
    wanted: Wanted | None
    seen: Observation | None
    cold_start: ColdStart
    overdue: int

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
            asleep = not self.before and not self.ready
            text = "no replica, no demand" if asleep else "too few replicas report"
        else:
            text = f"{self.wanted.binding}: {self.wanted.ahead:.2f} replicas' work"
            if self.wanted.backlog:
                text += f" and {self.wanted.backlog:.2f} for the backlog"
            text += f" asks for {self.wanted.in_full}"
        if self.allowed.limits:
            text += f"; {self.target} by {', '.join(self.allowed.limits)}"
        if self.allowed.missing:
            text += f"; {self.allowed.missing} MISSING, max is {self.target}"
        if self.overdue:
            text += f"; {self.overdue} OVERDUE, asked for and not started"
        return text


@dataclass(frozen=True, slots=True)
class ScalingMemory:
    """What an autoscaler knows, to be handed to the one that takes its place."""

    meter: DemandMeter
    policy: ScalingState
    limits: LimitState


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
        *,
        woken: bool = False,
    ) -> ScalingRecord:
        """The decision at `now`, in seconds of a clock that never goes back.

        Args:
            readings: the latest of each replica.
            ready: replicas that serve.
            target: replicas that were asked for.
            now: seconds.
            floors: see `allow`.
            woken: see `allow`.
        """
        seen = self.meter.read(readings, ready, target, now)
        wanted: Wanted | None = None
        if seen is not None:
            wanted, self._policy = want(self.config, seen, self._policy, now)
        allowed, self._limits = allow(
            self.limits, wanted, target, self._limits, now, floors, woken=woken
        )
        return ScalingRecord(
            at=now,
            before=target,
            ready=len(ready),
            allowed=allowed,
            wanted=wanted,
            seen=seen,
            cold_start=self.meter.cold_start,
            overdue=self.meter.overdue(now),
        )

    @property
    def memory(self) -> ScalingMemory:
        """What it knows so far."""
        return ScalingMemory(self.meter, self._policy, self._limits)

    def resume(self, memory: ScalingMemory) -> None:
        """Go on from where another left off, on the same clock, with the settings of this one."""
        self.meter.resume(memory.meter)
        self._policy, self._limits = memory.policy, memory.limits

    def __repr__(self) -> str:
        return f"<Autoscaler {self._policy.history!r}>"
