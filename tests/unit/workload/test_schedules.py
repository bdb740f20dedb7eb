"""Whole workloads: what is asked when, and how several workers share it."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workload_samples import TALK, kind, mixes

from forebay.workload import (
    ClosedLoop,
    Constant,
    Gamma,
    Hold,
    Kind,
    Law,
    LinearRamp,
    OpenLoop,
    Poisson,
    RateCurve,
    Replay,
    Session,
    share_of,
)

CURVE = RateCurve((Hold(50, 4), LinearRamp(50, 0, 4)))
laws = st.sampled_from([Poisson(), Gamma(2.0), Constant()])


def open_loop(seed: int = 0, rate: float = 50.0) -> OpenLoop:
    kinds = [kind("a", conversations=TALK), kind("b")]
    return OpenLoop(curve=RateCurve((Hold(rate, 10),)), law=Poisson(), kinds=kinds, seed=seed)


@settings(max_examples=30)
@given(mixes, laws, st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_schedule(mix: tuple[Kind, ...], law: Law, seed: int) -> None:
    loop = OpenLoop(curve=CURVE, law=law, kinds=mix, seed=seed)
    schedule = loop.schedule()
    assert schedule == loop.schedule()
    times = [session.at_s for session in schedule]
    assert all(at_s is not None and 0 <= at_s <= loop.seconds == 8 for at_s in times)
    assert times == sorted(times, key=lambda at_s: at_s or 0.0)
    assert [session.number for session in schedule] == list(range(len(schedule)))


def test_another_seed_gives_another_schedule() -> None:
    assert open_loop(0).schedule() != open_loop(1).schedule()


def test_another_rate_asks_the_same_at_other_times() -> None:
    """So two rates of one seed differ by the load alone."""
    slow, fast = open_loop(rate=20).schedule(), open_loop(rate=80).schedule()
    assert len(slow) < len(fast)
    for one, other in zip(slow, fast, strict=False):
        assert one.turns == other.turns


def test_a_curve_without_a_rate_asks_nothing() -> None:
    loop = OpenLoop(curve=RateCurve((Hold(0, 5),)), law=Poisson(), kinds=[kind()])
    assert loop.schedule() == []


@given(st.integers(0, 200), st.integers(1, 9))
def test_workers_lose_nothing_and_double_nothing(count: int, workers: int) -> None:
    items = [Session(number=number, turns=(), at_s=float(number)) for number in range(count)]
    parts = [share_of(items, worker, workers) for worker in range(workers)]
    for part in parts:
        assert part == sorted(part, key=lambda session: session.number)
    together = sorted((session for part in parts for session in part), key=lambda one: one.number)
    assert together == items
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_workers_share_the_sessions_of_a_closed_loop() -> None:
    loop = ClosedLoop(clients=3, seconds=5, kinds=[kind("a"), kind("b")], seed=4)
    whole = list(islice(loop.stream(), 300))
    parts = [list(islice(loop.stream(), worker, 300, 3)) for worker in range(3)]
    assert sorted((s for part in parts for s in part), key=lambda s: s.number) == whole
    assert {session.at_s for session in whole} == {None}


def test_a_replay_asks_what_was_recorded() -> None:
    recorded = [Session(number=0, turns=(), at_s=0.5), Session(number=1, turns=(), at_s=2.0)]
    assert Replay(recorded=recorded, seconds=3.0).schedule() == recorded


@pytest.mark.parametrize(("clients", "seconds"), [(0, 5.0), (-1, 5.0), (1, 0.0), (1, np.nan)])
def test_an_impossible_closed_loop_is_refused(clients: int, seconds: float) -> None:
    with pytest.raises(ValueError, match=rf"1 client or more and some time, not {clients} for"):
        ClosedLoop(clients=clients, seconds=seconds, kinds=[kind()])
