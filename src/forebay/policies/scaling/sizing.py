"""How many replicas the offered demand needs: tokens, not requests and not utilisation.

Demand is what was asked, served or not: a tight bound that sheds everything would otherwise look
like an idle fleet. It is compared with what one replica sustains within its promises. Computing
prompts and making answers share the time of the same steps, so their parts of a replica add up;
memory for the KV cache is shared by nothing, so the larger of the two needs counts.

What is wanted is the need, as it will be when a replica started now is ready, over the share of a
replica that may be used, plus what drains the backlog. The forecast takes part only as far as it is
certain (`demand_forecast.py`), over the cold start as measured and one standard deviation more. To
grow, even the low end of the need must not fit: one standard error below the mean, and two while
replicas are starting, since these were asked for by much the same mean. Then the demand is watched
for a fifth of the cold start, a large rise for less, and the fleet grows once, to what was seen
since, instead of by one and again by one while the mean catches up; where a limit lets through a
part of that, what is certain of the rest follows at the next looks, unless the slack has room for
it. A fleet that has shrunk has a twentieth of room before it would grow again.
Replicas that were asked for and are not ready yet are in the target already, so waiting for a slow
node never asks for another.

Limits are in `scaling_limits.py`. All of it is pure: the state is a value, handed in and out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil, inf
from typing import Literal

from forebay.policies.scaling.demand_forecast import DemandHistory

Binding = Literal["prefill", "decode", "kv", "backlog", "forecast", "nothing"]
CapacitySource = Literal["declared", "learned"]

_SHORTEST_S, _LONGEST_S = 4.0, 30.0  # half-life of the level
_HALF_LIFE_SHARE = (
    1 / 6
)  # of the cold start: what is lost by waiting for evidence is that much more
# Of the cold start, for which a rise is watched before the fleet grows; less where more than twice
# as many are wanted: what is lost meanwhile is that much more.
_CONFIRM_SHARE = 0.2
_LARGE = 2.0
_CONFIRM_AT_LEAST_S, _CONFIRM_AT_MOST_S = 2.0, 12.0
_CERTAIN = 2.0  # standard errors
_WINDOW_SHARE = 2.0  # of the cold start, on which the trend looks back
_ROUNDING = 1e-6  # replicas; 3.0000001 needs 3
_IDLE = 0.01  # replicas; what is left of a fading mean once nobody asks any more


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the fleet.

    Attributes:
        prefill: prompt tokens/s to be computed, those found in a cache left out.
        decode: output tokens/s.
        kv: tokens held at once if all that is asked were served.
    """

    prefill: float = 0.0
    decode: float = 0.0
    kv: float = 0.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica sustains within its promises.

    Attributes:
        prefill: prompt tokens/s when it does nothing else.
        decode: output tokens/s when it does nothing else.
        kv: tokens that its KV cache holds.
        source: where these come from.
    """

    prefill: float
    decode: float
    kv: float
    source: CapacitySource

    @classmethod
    def declared(cls, prefill: float, decode: float) -> Capacity:
        """As a user says; `kv` is infinite until replicas tell what their caches hold."""
        return cls(prefill, decode, inf, "declared")


@dataclass(frozen=True, slots=True)
class ColdStart:
    """Seconds from asking for a replica until it serves, of the last starts.

    Attributes:
        mean_s, deviation_s: mean and standard deviation.
        longest_s: the longest of them; 0 where none was seen.
    """

    mean_s: float
    deviation_s: float = 0.0
    longest_s: float = 0.0

    @property
    def most_s(self) -> float:
        """What no start has exceeded."""
        return max(self.longest_s, self.mean_s)

    @property
    def cautious_s(self) -> float:
        """A start that most starts do not exceed."""
        return self.mean_s + self.deviation_s


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of the fleet since the observation before.

    Attributes:
        demand: offered, over those seconds.
        seconds: that it covers.
        backlog: admitted and not yet begun: tokens of prompts and of their answers (`kv` unused).
        capacity: of one replica.
        cold_start: of one replica.
        ready: replicas that serve.
        target: replicas that were asked for; those beyond `ready` are starting.
        silent: of the ready, those that have not reported for long: their demand is missing above.
    """

    demand: Demand
    seconds: float
    backlog: Demand
    capacity: Capacity
    cold_start: ColdStart
    ready: int
    target: int
    silent: int = 0


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """Settings of the policy.

    Attributes:
        headroom: share of every replica that is left free for what comes at random.
        drain_s: seconds within which a backlog beyond `tolerated_s` should be gone.
        tolerated_s: work waiting for each ready replica that is no reason to grow, in seconds.
        slack: share of the headroom that may be used up before the fleet grows.
    """

    headroom: float = 0.2
    drain_s: float = 60.0
    tolerated_s: float = 1.0
    slack: float = 0.25


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas, as fractions, that each part of the demand keeps busy."""

    prefill: float
    decode: float
    kv: float

    @property
    def total(self) -> float:
        """Replicas kept busy by all of it."""
        return max(self.prefill + self.decode, self.kv)

    @property
    def binding(self) -> Binding:
        """The part that asks for most."""
        if not self.total:
            return "nothing"
        if self.kv > self.prefill + self.decode:
            return "kv"
        return "prefill" if self.prefill >= self.decode else "decode"


@dataclass(frozen=True, slots=True)
class Rise:
    """A need that does not fit: since when, and the mean of it since then.

    Attributes:
        watched_since: when it began, or when the fleet last grew by it.
        seconds, total: over which the need was seen, and replicas kept busy times seconds.
        step: (target, replicas asked for at it) once it was long enough to grow; until then None.
    """

    watched_since: float
    seconds: float = 0.0
    total: float = 0.0
    step: tuple[int, int] | None = None

    def add(self, replicas: float, seconds: float) -> Rise:
        """With one more sample."""
        total = self.total + replicas * seconds
        return replace(self, seconds=self.seconds + seconds, total=total)

    def is_granted_in_part(self, target: int) -> bool:
        """Whether the fleet grew by less than was asked for."""
        return self.step is not None and self.step[0] < target < self.step[1]

    @property
    def mean(self) -> float:
        """Replicas kept busy since it began."""
        return self.total / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class ScalingState:
    """What the policy remembers: the need so far, None before the first observation; a rise."""

    history: DemandHistory | None = None
    rise: Rise | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the policy wants, before any limit.

    Attributes:
        replicas: to ask for, on the evidence so far.
        in_full: that the demand seen asks for, however short it was seen.
        at_least: fewest that it could do with: what scaling down is judged by.
        need: of the demand as observed last.
        level: replicas kept busy of late, mean.
        error: standard error of the level.
        ahead: those expected when a replica started now is ready.
        backlog: replicas to drain the backlog in time.
        binding: what asks for most.
    """

    replicas: int
    in_full: int
    at_least: int
    need: Need = field(default_factory=lambda: Need(0.0, 0.0, 0.0))
    level: float = 0.0
    error: float = 0.0
    ahead: float = 0.0
    backlog: float = 0.0
    binding: Binding = "nothing"


def need(demand: Demand, capacity: Capacity) -> Need:
    """Replicas that a demand keeps busy.

    Raises:
        ValueError: the capacity is not positive.
    """
    if min(capacity.prefill, capacity.decode, capacity.kv) <= 0.0:
        raise ValueError(f"not a capacity: {capacity}")
    return Need(
        demand.prefill / capacity.prefill, demand.decode / capacity.decode, demand.kv / capacity.kv
    )


def want(
    config: ScalingConfig, seen: Observation, state: ScalingState, now: float
) -> tuple[Wanted, ScalingState]:
    """The replicas that the demand asks for, and the state with this observation in it."""
    latest = need(seen.demand, seen.capacity)
    history = _history(seen, state).add(latest.total, seen.seconds, now)
    forecast = history.forecast
    backlog = _backlog(config, seen)
    usable, band = 1.0 - config.headroom, config.slack * config.headroom
    ahead = forecast.after(seen.cold_start.cautious_s)
    in_full = _whole(ahead / usable + backlog)
    at_least = _at_least(forecast.lasting / usable + backlog, seen, latest)
    replicas = min(seen.target, at_least)
    errors = _CERTAIN if seen.ready < seen.target else 1.0
    low_end = ahead - errors * forecast.error
    fits = _whole(low_end / (usable + band) + backlog) <= seen.target
    rise = _rising(state.rise, seen.target, now, fits=fits)
    if rise is not None:
        rise, replicas = rise.add(latest.total, seen.seconds), seen.target
        confirmed = now - rise.watched_since >= _confirm_s(seen, in_full)
        if confirmed or rise.step is not None:
            # What is left of a rise was seen for no longer: as much as is certain, until it is.
            left_out = 0.0 if confirmed else _CERTAIN * forecast.error
            ahead = max(rise.mean - left_out + ahead - forecast.level, 0.0)
            room = usable if rise.step is None else usable + band
            if _whole(ahead / room + backlog) > seen.target:
                replicas = _whole(ahead / usable + backlog)
        if confirmed:
            rise = replace(rise, step=(seen.target, replicas), watched_since=now)
    wanted = Wanted(
        replicas,
        in_full,
        at_least,
        latest,
        forecast.level,
        forecast.error,
        ahead,
        backlog,
        _binding(latest, forecast.level, ahead, backlog),
    )
    return wanted, ScalingState(history, rise)


def _rising(rise: Rise | None, target: int, now: float, *, fits: bool) -> Rise | None:
    """The rise that goes on, or a new one; None where all fits and nothing is owed."""
    if rise is not None and rise.is_granted_in_part(target):
        return rise
    if fits:
        return None
    return rise if rise is not None and rise.step is None else Rise(now)


def _at_least(replicas: float, seen: Observation, latest: Need) -> int:
    """The fewest to do with: all, while some are silent; none only where nothing is asked."""
    if seen.silent:
        return max(_whole(replicas), seen.target)
    if replicas < _IDLE and not latest.total:
        return 0
    return _whole(replicas)


def _confirm_s(seen: Observation, wanted: int) -> float:
    """Seconds for which a rise is watched."""
    share = _CONFIRM_SHARE * min(_LARGE * seen.target / max(wanted, 1), 1.0)
    share_s = share * seen.cold_start.mean_s
    return min(max(share_s, _CONFIRM_AT_LEAST_S), _CONFIRM_AT_MOST_S)


def _history(seen: Observation, state: ScalingState) -> DemandHistory:
    """The history so far; a new one where there is none or the cold start has changed much."""
    cold_s = seen.cold_start.cautious_s
    half_life_s = min(max(cold_s * _HALF_LIFE_SHARE, _SHORTEST_S), _LONGEST_S)
    window_s = max(_WINDOW_SHARE * cold_s, 4 * half_life_s)
    if state.history is None:
        return DemandHistory(half_life_s, window_s)
    return replace(state.history, half_life_s=half_life_s, window_s=window_s)


def _backlog(config: ScalingConfig, seen: Observation) -> float:
    """Replicas that drain what waits beyond the tolerated, in time."""
    work_s = need(seen.backlog, seen.capacity).total  # of one replica: tokens over tokens/s
    excess_s = work_s - config.tolerated_s * max(seen.ready, 1)
    return max(excess_s, 0.0) / config.drain_s


def _binding(latest: Need, level: float, ahead: float, backlog: float) -> Binding:
    if backlog > ahead:
        return "backlog"
    return "forecast" if ahead > 2 * level else latest.binding


def _whole(replicas: float) -> int:
    return max(ceil(replicas - _ROUNDING), 0)
