"""Limits on what a scaling policy wants, each a wrapper that any policy can have.

A limit takes what is wanted and the present target and says what may be done; one that changes the
figure puts its name on the decision, so that a fleet can always tell why it has the size it has.
In the order in which they apply: a fleet that cannot be seen is held; steps are limited, but not
those to floors that schedules and people set; who asks a fleet of none gets one replica; a fall is
believed only when nothing in the last while asked for more (in twice that, where it is of one
replica among several), and made at once: while the last while is about to ask for fewer still, it
waits for that; bounds have the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Literal, get_args

from forebay.policies.scaling.sizing import Wanted

Limit = Literal["blind", "stabilisation", "step", "woken", "floor", "min", "max"]
LIMITS: tuple[Limit, ...] = get_args(Limit)


_LEAST_GROWTH = 2  # replicas
# Between two sizes of a fleet noise decides, and one replica too many of several costs little.
_SEVERAL = 4  # replicas, of which a fall by one
_TIMES = 2.0  # has to be seen for so much longer
_GATHER_S = 60.0  # to wait for the rest of a fall
_GATHER_SHARE = 0.5  # of `stable_s`, for which a fleet that could shrink waits at most


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """Settings of the limits.

    Attributes:
        min, max: replicas.
        stable_s: seconds during which nothing asked for more, before the fleet shrinks.
        grow_by: most growth in one decision, as a share of the target; always two at least: a fleet
            of one that needs three would wait for the second look with nothing learned by it.
        shrink_by: most shrinking in one decision, as a share of the target; always one at least.
        settle_s: seconds from one shrinking to the next.
    """

    min: int
    max: int
    stable_s: float = 300.0
    grow_by: float = 1.0
    shrink_by: float = 0.5
    settle_s: float = 30.0


@dataclass(frozen=True, slots=True)
class LimitState:
    """What the limits remember.

    Attributes:
        asked: (time, replicas at least) of late, falling: the maxima that a window can need.
        shrunk_at: when the fleet was last made smaller.
        since: when the limits began to watch; nothing shrinks before `stable_s` from then.
        could_since: since when the fleet could shrink; None while it could not.
    """

    asked: tuple[tuple[float, int], ...] = ()
    shrunk_at: float | None = None
    since: float | None = None
    could_since: float | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be done: the target, the limits that changed it, and the replicas it lacks."""

    replicas: int
    limits: tuple[Limit, ...] = ()
    missing: int = 0


def allow(
    config: LimitConfig,
    wanted: Wanted | None,
    target: int,
    state: LimitState,
    now: float,
    floors: Sequence[int] = (),
    *,
    woken: bool = False,
) -> tuple[Allowed, LimitState]:
    """The target that the limits allow.

    Args:
        config: the limits.
        wanted: by the policy; None where it could not see the fleet.
        target: replicas asked for at present.
        state: of the limits.
        now: seconds.
        floors: fewest replicas that schedules and people ask for at present.
        woken: whether somebody has asked while there was no replica to ask.
    """
    state = state if state.since is not None else replace(state, since=now)
    limits: list[Limit] = []
    replicas = target
    if wanted is None:
        if target:  # where there is nobody, there is nobody to see
            limits.append("blind")
    else:
        state = _asked(config, wanted.at_least, state, now)
        replicas = _stepped(config, wanted.replicas, target, limits)
    if woken and replicas < 1:
        replicas = 1
        limits.append("woken")
    floor = max(floors, default=0)
    if floor > replicas:
        replicas = floor
        limits.append("floor")
    if replicas < target:
        lower = _held_back(config, replicas, target, state, now)
        state = replace(state, could_since=_could_since(lower < target, state, now))
        if lower < target and _falls_further(config, lower, state, now):
            lower = target
        if lower > replicas:
            limits.append("stabilisation")
        replicas = lower
    else:
        state = replace(state, could_since=None)
    bounded = _bounded(config, replicas, limits)
    if bounded < target:
        state = replace(state, shrunk_at=now)
    if bounded > target:
        # What it has just grown to was asked for, whatever a mean that lags behind says next.
        state = _asked(config, bounded, state, now)
    asked = max(target if wanted is None else wanted.in_full, floor)
    missing = max(asked - config.max, 0) if bounded == config.max else 0
    return Allowed(bounded, tuple(limits), missing), state


def _asked(config: LimitConfig, replicas: int, state: LimitState, now: float) -> LimitState:
    """Keep what may yet be the largest of the window."""
    fresh = [one for one in state.asked if one[0] > now - _TIMES * config.stable_s]
    while fresh and fresh[-1][1] <= replicas:
        fresh.pop()
    return replace(state, asked=(*fresh, (now, replicas)))


def _held_back(
    config: LimitConfig, replicas: int, target: int, state: LimitState, now: float
) -> int:
    """Shrink only to what was asked at most in the window, and not right after shrinking."""
    if state.shrunk_at is not None and now - state.shrunk_at < config.settle_s:
        return target
    lower = max(replicas, _most_asked(state, now, config.stable_s))
    if lower >= target - 1 and target >= _SEVERAL:
        lower = max(replicas, _most_asked(state, now, _TIMES * config.stable_s))
    return int(min(lower, target))


def _most_asked(state: LimitState, now: float, window_s: float) -> float:
    """The most that was asked for in so many seconds; infinity before they have passed."""
    assert state.since is not None
    if now - state.since < window_s:
        return inf
    return max((count for at, count in state.asked if at > now - window_s), default=0)


def _could_since(could: bool, state: LimitState, now: float) -> float | None:
    if not could:
        return None
    return now if state.could_since is None else state.could_since


def _falls_further(config: LimitConfig, lower: int, state: LimitState, now: float) -> bool:
    """Whether the window will soon allow fewer still; not for ever, in a fall that takes hours."""
    assert state.could_since is not None
    if now - state.could_since >= _GATHER_SHARE * config.stable_s:
        return False
    gather_s = min(_GATHER_S, _GATHER_SHARE * config.stable_s)
    soon = _most_asked(state, now, config.stable_s - gather_s)
    return soon < min(lower, _most_asked(state, now, config.stable_s))


def _stepped(config: LimitConfig, replicas: int, target: int, limits: list[Limit]) -> int:
    up = target + max(ceil(config.grow_by * target), _LEAST_GROWTH)
    down = target - max(int(config.shrink_by * target), 1)
    stepped = min(max(replicas, down), up)
    if stepped != replicas:
        limits.append("step")
    return stepped


def _bounded(config: LimitConfig, replicas: int, limits: list[Limit]) -> int:
    if replicas < config.min:
        limits.append("min")
    if replicas > config.max:
        limits.append("max")
    return min(max(replicas, config.min), config.max)
