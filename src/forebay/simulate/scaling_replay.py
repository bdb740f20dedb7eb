"""What another scaling policy would have decided on the inputs that a fleet recorded.

The recorded demand, backlog, capacity and cold starts are given to the policy, look by look; the
fleet that it sees is its own: what it asked for is ready a recorded cold start later. What a
different fleet would have done to the demand is not known: no request is served anew, the backlog
is the recorded one, and what was shed then is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from forebay.policies.scaling import (
    Capacity,
    ColdStart,
    Demand,
    LimitConfig,
    LimitState,
    Observation,
    ScalingConfig,
    ScalingRecord,
    ScalingState,
    allow,
    need,
    want,
)

_LONGEST_GAP_S = 30.0  # between two records, for the demand of the second to stand for all of it


@dataclass(frozen=True, slots=True)
class RecordedScaling:
    """One decision of a fleet, as its log tells it.

    Attributes:
        at: seconds since 1970.
        target, ready: replicas asked for from then on, and serving.
        missing: replicas that `max` withheld.
        woken: whether somebody had asked a fleet of none.
        seen: the policy's inputs; None where the fleet could not be seen.
        cold_start: of a replica.
        reason: in words.
    """

    at: float
    target: int
    ready: int
    missing: int
    woken: bool
    seen: Observation | None
    cold_start: ColdStart
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """A moment of the recording, and of the same hours under the other policy.

    Attributes:
        at: seconds since 1970.
        work: replicas that the demand keeps busy; None where it was not seen.
        then: target, ready and missing replicas of the recorded fleet.
        now: the same of the replayed one.
        then_why, now_why: the decisions in words.
    """

    at: float
    work: float | None
    then: tuple[int, int, int]
    now: tuple[int, int, int]
    then_why: str
    now_why: str


@dataclass(frozen=True, slots=True)
class Totals:
    """A fleet over a recording.

    Attributes:
        replica_hours: of replicas asked for.
        most: replicas at once.
        ups, downs: changes of the target.
        short_s: seconds in which the demand was more than the ready replicas' whole work.
        missing: most replicas that `max` withheld at once.
    """

    replica_hours: float
    most: int
    ups: int
    downs: int
    short_s: float
    missing: int


def read_record(plain: Mapping[str, Any]) -> RecordedScaling:
    """A decision from what `ScalingRecord.plain` made of it.

    Raises:
        ValueError: it is none, or of another version; the message says what is wrong.
    """
    try:
        seen, allowed = plain["seen"], plain["allowed"]
        return RecordedScaling(
            at=float(plain["at"]),
            target=int(plain["target"]),
            ready=int(plain["ready"]),
            missing=int(allowed["missing"]),
            woken="woken" in allowed["limits"],
            seen=None if seen is None else _observation(seen),
            cold_start=_cold_start(plain["cold_start"]),
            reason=str(plain["reason"]),
        )
    except KeyError as error:
        raise ValueError(f"not a scaling decision: it has no {error.args[0]!r}") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"not a scaling decision: {error}") from None


def _observation(plain: Mapping[str, Any]) -> Observation:
    parts = {
        "demand": Demand(**plain["demand"]),
        "backlog": Demand(**plain["backlog"]),
        "capacity": Capacity(**plain["capacity"]),
        "cold_start": _cold_start(plain["cold_start"]),
    }
    return Observation(**{**plain, **parts})


def _cold_start(plain: Mapping[str, Any]) -> ColdStart:
    return ColdStart(plain["mean_s"], plain["deviation_s"], plain["longest_s"])


class _Fleet:
    """Replicas that are asked for and become ready a cold start later."""

    def __init__(self, target: int, ready: int, now: float, cold_start_s: float) -> None:
        starting = max(target - ready, 0)
        self._ready_at = [now] * min(ready, target) + [now + cold_start_s] * starting

    def target(self) -> int:
        return len(self._ready_at)

    def ready(self, now: float) -> int:
        return sum(at <= now for at in self._ready_at)

    def resize(self, target: int, now: float, cold_start_s: float) -> None:
        """Those that would be ready last go first."""
        self._ready_at = sorted(self._ready_at)[:target]
        self._ready_at += [now + cold_start_s] * (target - len(self._ready_at))


def replay(
    records: Sequence[RecordedScaling],
    config: ScalingConfig,
    limits: LimitConfig,
    floors: Callable[[float, float], Sequence[int]] = lambda _at, _lead_s: (),
) -> list[Look]:
    """Each look of a recording with what this policy decides at it.

    Args:
        records: decisions in order of time, of one fleet.
        config: of the policy.
        limits: its limits.
        floors: of the schedule, by the time (seconds since 1970) and the longest cold start (s).
    """
    if not records:
        return []
    first = records[0]
    # It begins with the fleet that there was, within its own bounds.
    target = min(max(first.target, limits.min), limits.max)
    fleet = _Fleet(target, first.ready, first.at, first.cold_start.mean_s)
    state, limit_state, before_at = ScalingState(), LimitState(), None
    looks = []
    for one in records:
        was, ready, wanted = fleet.target(), fleet.ready(one.at), None
        seen = _as_seen(one, before_at, was, ready)
        if seen is not None:
            wanted, state = want(config, seen, state, one.at)
        allowed, limit_state = allow(
            limits,
            wanted,
            was,
            limit_state,
            one.at,
            floors(one.at, one.cold_start.most_s),
            woken=one.woken,
        )
        fleet.resize(allowed.replicas, one.at, one.cold_start.mean_s)
        decided = ScalingRecord(
            at=one.at,
            before=was,
            ready=ready,
            allowed=allowed,
            wanted=wanted,
            seen=seen,
            cold_start=one.cold_start,
            overdue=0,
        )
        looks.append(_look(one, decided))
        before_at = one.at
    return looks


def _as_seen(
    one: RecordedScaling, before_at: float | None, target: int, ready: int
) -> Observation | None:
    """The recorded inputs, with the replayed fleet in them.

    A record stands for all the time since the one before: not every look is kept.
    """
    if one.seen is None:
        return None
    seconds = one.seen.seconds
    if before_at is not None:
        seconds = min(max(one.at - before_at, seconds), _LONGEST_GAP_S)
    silent = min(one.seen.silent, ready)
    return replace(one.seen, seconds=seconds, target=target, ready=ready, silent=silent)


def _look(one: RecordedScaling, decided: ScalingRecord) -> Look:
    work = None if one.seen is None else need(one.seen.demand, one.seen.capacity).total
    return Look(
        at=one.at,
        work=work,
        then=(one.target, one.ready, one.missing),
        now=(decided.target, decided.ready, decided.allowed.missing),
        then_why=one.reason,
        now_why=decided.reason,
    )


def totals(looks: Sequence[Look]) -> tuple[Totals, Totals]:
    """The recorded fleet, and the replayed one."""
    return _totals(looks, lambda look: look.then), _totals(looks, lambda look: look.now)


def _totals(looks: Sequence[Look], of: Callable[[Look], tuple[int, int, int]]) -> Totals:
    replica_s = short_s = 0.0
    changes = []
    for look, after in pairwise(looks):
        lasted_s = after.at - look.at
        target, ready, _ = of(look)
        replica_s += target * lasted_s
        short_s += lasted_s if look.work is not None and look.work > ready else 0.0
        changes.append(of(after)[0] - target)
    return Totals(
        replica_hours=replica_s / 3600,
        most=max((of(look)[0] for look in looks), default=0),
        ups=sum(change > 0 for change in changes),
        downs=sum(change < 0 for change in changes),
        short_s=short_s,
        missing=max((of(look)[2] for look in looks), default=0),
    )
