"""A fleet over time: requests come, replicas start, serve, drain and go, a policy says how many.

The life of a replica: asked for, *starting* for a cold start, *ready*, and when it is no longer
wanted *draining* until it has finished what it holds, or `drain_s` is over. A fleet that shrinks
lets go of those that are starting first, then of the youngest, as Ray Serve does. Replicas cost
from the moment they are asked for to the moment they are gone.

Every half second is a beat: replicas become ready or go, and publish; every second beat the policy
is asked. In between only a replica that gets a request is moved on, and only as far as that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from forebay.simulate.placing import PERIOD_S, Router
from forebay.simulate.requests_and_outcomes import Outcome, SimRequest
from forebay.simulate.scalers import Scaler, Sight
from forebay.simulate.simulated_replica import GatedReplica, OpenReplica

BEATS_PER_LOOK = 2  # one look a second, as production's


@dataclass(frozen=True, slots=True)
class FleetConfig:
    """A fleet's limits.

    Attributes:
        min, max: replicas, whatever the policy says.
        initial: ready at second 0.
        cold_start_s: the next replica's, from asking to ready.
        drain_s: longest that a replica goes on which is no longer wanted.
        until_s: longest that the fleet is watched after the last request, for the policy to shrink
            it; it ends before, once all is answered and the fleet is at its min.
    """

    min: int
    max: int
    initial: int
    cold_start_s: Callable[[], float]
    drain_s: float = 600.0
    until_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """The fleet at a look: replicas asked for, ready, and in existence, draining ones included."""

    at_s: float
    target: int
    ready: int
    existing: int


@dataclass(slots=True)
class _Life:
    replica: OpenReplica
    asked_at: float
    ready_at: float
    drained_at: float | None = None


@dataclass(slots=True)
class FleetRun:
    """What happened.

    Attributes:
        fates: of every request, in order.
        moments: one for each look of the policy.
        replica_seconds: from being asked for to being gone, over all replicas.
        started: replicas that were asked for after second 0.
        seconds: that the run lasted.
    """

    fates: list[Outcome] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    replica_seconds: float = 0.0
    started: int = 0
    seconds: float = 0.0

    @property
    def average_replicas(self) -> float:
        """Mean number in existence."""
        return self.replica_seconds / self.seconds if self.seconds else 0.0

    @property
    def changes(self) -> list[tuple[float, int]]:
        """(when, by how many) the target changed."""
        pairs = zip(self.moments, self.moments[1:], strict=False)
        return [(b.at_s, b.target - a.target) for a, b in pairs if b.target != a.target]


class Fleet:
    """Replicas behind one router, under one scaling policy."""

    def __init__(
        self,
        config: FleetConfig,
        make: Callable[[str], OpenReplica],
        router: Router,
        scaler: Scaler,
        check: Callable[[Fleet], None] | None = None,
    ) -> None:
        """`make` makes a replica of a name; `check` is called after every beat, for invariants."""
        self.config = config
        self._make = make
        self._router = router
        self._scaler = scaler
        self._check = check
        self._numbers = 0
        self._lives: list[_Life] = []
        self.run_so_far = FleetRun()
        self._target = min(max(config.initial, config.min), config.max)
        for _ in range(self._target):
            self._ask_for(0.0, 0.0)

    # --- what there is --------------------------------------------------------------------

    @property
    def target(self) -> int:
        """Replicas asked for."""
        return self._target

    @property
    def existing(self) -> int:
        """Replicas that cost: starting, ready and draining."""
        return len(self._lives)

    @property
    def draining(self) -> list[OpenReplica]:
        """Replicas that finish what they hold."""
        return [life.replica for life in self._lives if life.drained_at is not None]

    def ready(self, now: float) -> list[OpenReplica]:
        """Replicas that take requests."""
        return [
            life.replica for life in self._lives if life.drained_at is None and life.ready_at <= now
        ]

    # --- over time ------------------------------------------------------------------------

    def run(self, asks: Iterable[SimRequest]) -> FleetRun:
        """Serve requests, in order of time, to the end."""
        beat = 0
        last = 0.0
        for ask in asks:
            while beat * PERIOD_S <= ask.at_s:
                self._beat(beat)
                beat += 1
            self._serve(ask)
            last = ask.at_s
        while not self._over(beat * PERIOD_S, last):
            self._beat(beat)
            beat += 1
        return self._ended(beat * PERIOD_S)

    def _over(self, now: float, last: float) -> bool:
        if any(not life.replica.idle for life in self._lives):
            return False
        at_rest = self._target == self.config.min and len(self._lives) == self._target
        return at_rest or now > last + self.config.until_s

    def _serve(self, ask: SimRequest) -> None:
        fate = Outcome(ask)
        self.run_so_far.fates.append(fate)
        replicas = self.ready(ask.at_s)
        if not replicas:
            fate.end("no_replica", ask.at_s)
            return
        replica, fate.promised = self._router.place(replicas, ask, ask.at_s)
        replica.advance(ask.at_s)
        replica.arrive(fate, ask.at_s)

    def _beat(self, number: int) -> None:
        now = number * PERIOD_S
        for life in self._lives:
            life.replica.advance(now)
        self._let_go_of_drained(now)
        ready = self.ready(now)
        self._router.heard(ready, now)
        if number % BEATS_PER_LOOK == 0:
            self._look(ready, now)
        if self._check is not None:
            self._check(self)

    def _look(self, ready: Sequence[OpenReplica], now: float) -> None:
        sight = Sight(
            now=now,
            ready=[one.name for one in ready],
            target=self._target,
            readings={one.name: one.reading() for one in ready if isinstance(one, GatedReplica)},
        )
        wanted = min(max(self._scaler.target(sight), self.config.min), self.config.max)
        while self._target < wanted:
            self._ask_for(now, self.config.cold_start_s())
            self.run_so_far.started += 1
            self._target += 1
        while self._target > wanted:
            self._let_one_go(now)
            self._target -= 1
        self.run_so_far.moments.append(
            Moment(now, self._target, len(self.ready(now)), len(self._lives))
        )

    # --- lives ----------------------------------------------------------------------------

    def _ask_for(self, now: float, cold_start_s: float) -> None:
        self._numbers += 1
        replica = self._make(f"r{self._numbers}")
        self._lives.append(_Life(replica, now, now + cold_start_s))

    def _let_one_go(self, now: float) -> None:
        """The one that will be ready last, or is the youngest."""
        # Of equals the first is taken: the one that was asked for last.
        life = max(
            (life for life in reversed(self._lives) if life.drained_at is None),
            key=lambda life: (life.ready_at > now, life.ready_at, life.asked_at),
        )
        life.drained_at = now
        life.replica.begin_drain()
        if life.ready_at > now:
            self._gone(life, now)

    def _let_go_of_drained(self, now: float) -> None:
        for life in [life for life in self._lives if life.drained_at is not None]:
            assert life.drained_at is not None
            if now - life.drained_at >= self.config.drain_s:
                life.replica.give_up(now)
            if life.replica.idle:
                self._gone(life, now)

    def _gone(self, life: _Life, now: float) -> None:
        self._lives.remove(life)
        self.run_so_far.replica_seconds += now - life.asked_at

    def _ended(self, now: float) -> FleetRun:
        for life in list(self._lives):
            self._gone(life, now)
        self.run_so_far.seconds = now
        return self.run_so_far
