"""What the fleet's size does over minutes of demand, in virtual time, second by second.

The demand of each second is that of a Poisson number of requests; asked for replicas are ready
after the cold start. One replica keeps up with 10,000 prompt tokens/s or 1,000 output tokens/s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.scaling import (
    Capacity,
    ColdStart,
    Demand,
    LimitConfig,
    LimitState,
    Observation,
    ScalingConfig,
    ScalingState,
    allow,
    need,
    want,
)
from forebay.policies.scaling.scaling_limits import Allowed
from forebay.policies.scaling.sizing import Wanted

REPLICA = Capacity(prefill=10_000, decode=1_000, kv=100_000, source="declared")
PROMPT, ANSWER = 500, 50  # a tenth of a replica for a request a second


@dataclass
class Fleet:
    """A fleet that does as the policy says."""

    limits: LimitConfig
    config: ScalingConfig = field(default_factory=ScalingConfig)
    cold: ColdStart = field(default_factory=lambda: ColdStart(60.0))
    capacity: Capacity = REPLICA
    target: int = 1
    seed: int = 1

    def __post_init__(self) -> None:
        self.now = 0.0
        self.ready = self.target
        self.targets: list[int] = []
        self.asked: list[Allowed] = []
        self._policy, self._limits = ScalingState(), LimitState()
        self._starting: list[tuple[float, int]] = []
        self._rng = np.random.default_rng(self.seed)

    def run(
        self,
        seconds: int,
        rate: Callable[[float], float],
        *,
        prompt: int = PROMPT,
        answer: int = ANSWER,
        backlog: Demand | None = None,
        floors: Sequence[int] = (),
        seen: bool = True,
    ) -> None:
        """So many seconds of requests at `rate(t)` a second, t from now on."""
        start = self.now
        while self.now < start + seconds:
            self.now += 1.0
            self._get_ready()
            count = self._rng.poisson(rate(self.now - start))
            observed = Observation(
                Demand(count * prompt, count * answer),
                1.0,
                backlog or Demand(),
                self.capacity,
                self.cold,
                self.ready,
                self.target,
            )
            self._tick(observed if seen else None, floors)

    def _tick(self, observed: Observation | None, floors: Sequence[int]) -> None:
        wanted: Wanted | None = None
        if observed is not None:
            wanted, self._policy = want(self.config, observed, self._policy, self.now)
        allowed, self._limits = allow(
            self.limits, wanted, self.target, self._limits, self.now, floors
        )
        if allowed.replicas > self.target:
            self._starting.append((self.now + self.cold.mean_s, allowed.replicas))
        self.target = allowed.replicas
        self.targets.append(self.target)
        self.asked.append(allowed)

    def _get_ready(self) -> None:
        due = [count for at, count in self._starting if at <= self.now]
        self._starting = [one for one in self._starting if one[0] > self.now]
        self.ready = min(max([self.ready, *due]), self.target)

    @property
    def changes(self) -> int:
        """How often the target changed."""
        return sum(a != b for a, b in zip(self.targets, self.targets[1:], strict=False))


def steady(rate: float) -> Callable[[float], float]:
    return lambda _: rate


def at_rest(rate: float, **more: object) -> Fleet:
    """A fleet that has the size for a rate, having seen it for ten minutes."""
    fleet = Fleet(LimitConfig(min=1, max=20), **more)  # type: ignore[arg-type]
    fleet.run(600, steady(rate))
    fleet.targets.clear()
    fleet.asked.clear()
    return fleet


def test_the_fleet_has_room_for_the_demand_and_its_headroom() -> None:
    fleet = at_rest(28.0)  # 2.8 replicas of work
    assert fleet.target == 4


def test_replicas_follow_tokens_and_not_requests() -> None:
    small, large, both = (
        need(Demand(prefill, decode), REPLICA).total
        for prefill, decode in ((10_000, 1_000), (100_000, 10_000), (110_000, 11_000))
    )
    assert large == pytest.approx(10 * small)
    assert both == pytest.approx(small + large)


def test_memory_counts_where_it_is_what_lacks() -> None:
    found = need(Demand(1_000, 100, kv=250_000), REPLICA)
    assert (found.total, found.binding) == (2.5, "kv")


def test_a_long_fall_is_followed_while_it_lasts() -> None:
    fleet = Fleet(LimitConfig(1, 60), target=40)
    fleet.run(600, steady(300.0))
    fleet.run(1_500, lambda t: 300.0 - 285.0 * t / 1_500)
    # 300 s until a fall is believed, 150 s at most to wait for its rest, and the mean's lag.
    for t in range(900, 1_500, 100):
        believed = (300.0 - 285.0 * (t - 500) / 1_500) / 10 / 0.8
        assert fleet.targets[600 + t] <= believed + 2


def test_a_step_is_followed_at_once_and_not_overshot() -> None:
    fleet = at_rest(20.0)
    fleet.run(300, lambda t: 80.0 if t >= 1 else 20.0)
    soon = next(i for i, target in enumerate(fleet.targets) if target >= 10)
    assert soon <= 40
    assert max(fleet.targets) <= 12


@pytest.mark.parametrize("seed", range(4))
def test_a_large_rise_is_watched_for_less(seed: int) -> None:
    fleet = at_rest(20.0, seed=seed)
    size = fleet.target
    fleet.run(60, steady(140.0))
    grown = next(look for look, target in enumerate(fleet.targets) if target > size)
    assert grown <= 10  # of which a small rise is watched for 12


def test_what_a_step_leaves_of_a_rise_follows_at_the_next_looks() -> None:
    fleet = at_rest(2.0)
    fleet.run(60, steady(60.0))  # 6 replicas' work, 7.5 with headroom
    grown = [look for look, target in enumerate(fleet.targets) if target > 1]
    assert fleet.targets[grown[0] : grown[0] + 2] == [3, 6]
    assert fleet.targets[grown[0] + 2] in (6, 7, 8)
    assert max(fleet.targets) == fleet.targets[grown[0] + 13] == 8  # watched for 12 s


@pytest.mark.parametrize("seed", range(4))
def test_what_a_step_left_of_a_rise_is_let_be_where_the_slack_has_room_for_it(seed: int) -> None:
    fleet = at_rest(24.0, seed=seed)
    size = fleet.target
    # 5.6 replicas' work until it has been watched, then less: in the mean of all that is watched
    # 4.9, which is 6.1 with all the headroom and 5.8 with its slack used up.
    fleet.run(60, lambda _: 56.0 if fleet.target == size else 42.0)
    assert fleet.changes == 1
    assert fleet.target == 2 * size


def test_replicas_that_are_long_in_coming_are_not_asked_for_twice() -> None:
    fleet = at_rest(20.0, cold=ColdStart(90.0))
    fleet.cold = ColdStart(400.0)
    fleet.run(400, steady(50.0))
    assert max(fleet.targets) <= 8  # 50/s are five replicas' work, 6.25 with headroom


def test_shed_demand_counts_though_nothing_is_served_or_queued() -> None:
    fleet = Fleet(LimitConfig(min=1, max=8))
    fleet.run(60, steady(40.0))  # offered; what became of it is not asked
    assert fleet.target >= 5


def test_a_backlog_asks_for_what_drains_it() -> None:
    fleet = at_rest(20.0)
    fleet.run(30, steady(20.0), backlog=Demand(prefill=1_200_000))  # 120 s of one replica
    assert fleet.target == pytest.approx(2.5 + 2, abs=1)
    assert fleet.target > 3


def test_what_cannot_be_seen_is_held() -> None:
    fleet = at_rest(28.0)
    fleet.run(1_200, steady(0.0), seen=False)
    assert set(fleet.targets) == {4}
    assert all(one.limits == ("blind",) for one in fleet.asked)


def test_a_restarted_policy_shrinks_nothing_before_it_has_watched_for_a_while() -> None:
    fleet = Fleet(LimitConfig(min=1, max=20, stable_s=300.0), target=12)
    fleet.run(299, steady(5.0))
    assert set(fleet.targets) == {12}
    fleet.run(600, steady(5.0))
    assert fleet.target == 1


def test_what_max_leaves_undone_is_said() -> None:
    fleet = Fleet(LimitConfig(min=1, max=3))
    fleet.run(120, steady(80.0))
    assert fleet.target == 3
    assert any("max" in one.limits for one in fleet.asked)
    assert fleet.asked[-1].missing == pytest.approx(10 - 3, abs=1)


def test_a_floor_holds_against_no_demand_and_names_itself() -> None:
    fleet = Fleet(LimitConfig(min=1, max=20))
    fleet.run(30, steady(1.0), floors=(6, 4))
    assert fleet.target == 6
    assert "floor" in fleet.asked[-1].limits


@given(
    rates=st.lists(st.floats(0, 300), min_size=1, max_size=8),
    least=st.integers(0, 4),
    more=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_bounds_steps_and_reasons_always_hold(
    rates: list[float], least: int, more: int, seed: int
) -> None:
    limits = LimitConfig(min=least, max=least + more, stable_s=20.0, settle_s=5.0)
    fleet = Fleet(limits, cold=ColdStart(10.0), target=max(least, 1) if more else least, seed=seed)
    before = fleet.target
    for rate in rates:
        fleet.run(15, steady(rate))
    for target, allowed in zip(fleet.targets, fleet.asked, strict=True):
        assert limits.min <= target <= limits.max
        assert target <= max(2 * before, before + 2, limits.min)
        assert not allowed.missing or target == limits.max
        before = target


def test_while_replicas_are_starting_more_are_asked_for_on_more_evidence() -> None:
    cold, state = ColdStart(60.0), ScalingState()

    def seen(requests: float, ready: int) -> Observation:
        demand = Demand(requests * PROMPT, requests * ANSWER)
        return Observation(demand, 1.0, Demand(), REPLICA, cold, ready, target=5)

    for second in range(120):  # 5.2 replicas are kept busy, give or take
        _, state = want(ScalingConfig(), seen(52 + 30 * (-1) ** second, 5), state, float(second))
    wanted, quiet = want(ScalingConfig(), seen(52, 5), replace(state, rise=None), 120.0)
    low_end = (wanted.level - wanted.error) / 0.85
    assert low_end > 5 > (wanted.level - 2 * wanted.error) / 0.85
    assert quiet.rise is not None
    _, waiting = want(ScalingConfig(), seen(52, 3), replace(state, rise=None), 120.0)
    assert waiting.rise is None


def test_the_wait_for_the_rest_of_a_fall_has_an_end() -> None:
    config, state, target = LimitConfig(1, 60), LimitState(), 40
    for second in range(700):
        fewer = 40 - second // 40
        allowed, state = allow(config, Wanted(fewer, fewer, fewer), target, state, float(second))
        target = allowed.replicas
    # The window, the wait, and 40 s in which it falls by one: that alone is not believed so soon.
    assert target <= 40 - (700 - 300 - 150 - 40) // 40


@pytest.mark.parametrize(("before", "wanted", "after_s"), [(5, 4, 600), (5, 3, 300), (3, 2, 300)])
def test_a_fall_by_one_of_several_is_watched_for_twice_as_long(
    before: int, wanted: int, after_s: int
) -> None:
    config, state, target = LimitConfig(1, 60), LimitState(), before
    for second in range(after_s + 1):
        assert target == before
        one = Wanted(wanted, wanted, wanted)
        allowed, state = allow(config, one, target, state, float(second))
        target = allowed.replicas
    assert target == wanted
