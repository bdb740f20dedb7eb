"""A fleet in virtual time keeps its books, whatever comes and however it is scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.engine_model import PROFILES
from forebay.policies.request import BATCH, INTERACTIVE, AdmissionConfig, ClassPolicy, part_tokens
from forebay.policies.scaling import Autoscaler, LimitConfig, ScalingConfig
from forebay.serving.emulated import teach
from forebay.simulate import (
    Fleet,
    FleetConfig,
    FleetRun,
    ForebayRouter,
    GatedReplica,
    LeastOngoing,
    OpenReplica,
    Outcome,
    Scaler,
    SimRequest,
    Slo,
    Static,
    TokenScaler,
)
from forebay.simulate.scalers import Sight

ENGINE = replace(
    PROFILES["l4-8b"], prefix_caching=False, max_num_seqs=8, long_prefill_token_threshold=256
)
GATE = AdmissionConfig(
    classes={INTERACTIVE: ClassPolicy(2.0, 3.0), BATCH: ClassPolicy(30.0, 60.0)},
    slots=ENGINE.max_num_seqs,
    kv_tokens=ENGINE.kv_tokens,
    step_tokens=ENGINE.max_num_batched_tokens,
    tpot_s=0.2,
)
SLO = Slo(2.0, 0.2)


@dataclass
class Sequence:
    """A policy that wants one number after the other, each for some seconds."""

    wants: list[int]
    each_s: int

    def target(self, sight: Sight) -> int:
        return self.wants[int(sight.now) // self.each_s % len(self.wants)]


def ours() -> TokenScaler:
    limits = LimitConfig(1, 4, stable_s=20.0)
    return TokenScaler(Autoscaler(ScalingConfig(), limits, cold_start_s=5.0))


def fleet(
    scaler: Scaler,
    *,
    gated: bool = True,
    skip: bool = True,
    cold_start_s: float = 5.0,
    seed: int = 1,
    drain_s: float = 600.0,
    until_s: float = 0.0,
    **more: object,
) -> Fleet:
    def make(name: str) -> OpenReplica:
        if gated:
            return GatedReplica(name, ENGINE, GATE, teach, skip=skip)
        return OpenReplica(name, ENGINE, skip=skip)

    router = ForebayRouter(np.random.default_rng(seed).random) if gated else LeastOngoing()
    config = FleetConfig(1, 4, 1, lambda: cold_start_s, drain_s, until_s)
    return Fleet(config, make, router, scaler, **more)  # type: ignore[arg-type]


def asks_at(times: list[float], prompt: int = 300, answer: int = 40) -> list[SimRequest]:
    return [SimRequest(number, at, prompt, answer) for number, at in enumerate(sorted(times))]


def poisson(rate: float, seconds: float, seed: int = 1) -> list[SimRequest]:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, int(2 * rate * seconds)))
    sizes = rng.integers(20, 600, (len(times), 2))
    return [
        SimRequest(number, float(at), int(prompt), int(answer) // 4)
        for number, (at, (prompt, answer)) in enumerate(zip(times, sizes, strict=True))
        if at < seconds
    ]


def chats(rate: float, seconds: float, seed: int = 1) -> list[SimRequest]:
    """Sizes like those of Azure's conversations: a prompt of four is longer than a step."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, int(2 * rate * seconds)))
    prompts = np.clip(rng.lognormal(6.8, 1.0, len(times)), 10, 8_000)
    answers = np.clip(rng.lognormal(5.0, 0.8, len(times)), 2, 1_000)
    return [
        SimRequest(number, float(at), int(prompt), int(answer))
        for number, (at, prompt, answer) in enumerate(zip(times, prompts, answers, strict=True))
        if at < seconds
    ]


requests = st.lists(
    st.tuples(st.floats(0.0, 30.0), st.integers(1, 3000), st.integers(1, 150)), max_size=40
)
scalings = st.builds(Sequence, st.lists(st.integers(0, 9), min_size=1, max_size=5), st.just(4))


@settings(max_examples=25, deadline=None)
@given(requests, scalings, st.booleans(), st.floats(0.0, 12.0))
def test_every_request_ends_once_and_bounds_hold(
    sizes: list[tuple[float, int, int]], scaler: Sequence, gated: bool, cold_start_s: float
) -> None:
    asks = [
        SimRequest(n, at, prompt, answer) for n, (at, prompt, answer) in enumerate(sorted(sizes))
    ]

    def check(fleet: Fleet) -> None:
        assert 1 <= fleet.target <= 4
        assert fleet.existing == fleet.target + len(fleet.draining)

    run = fleet(scaler, gated=gated, cold_start_s=cold_start_s, check=check).run(asks)
    assert [fate.ask for fate in run.fates] == asks
    for fate in run.fates:
        assert fate.outcome in ({"ok", "shed", "deadline"} if gated else {"ok"})
        if fate.outcome == "ok":
            assert fate.tokens == fate.ask.answer
            assert fate.ask.at_s < fate.first_at <= fate.ended_at  # type: ignore[operator]
    most = max((moment.existing for moment in run.moments), default=0)
    assert run.replica_seconds <= most * run.seconds + 1e-6


def test_a_draining_replica_finishes_what_it_holds_and_then_goes() -> None:
    asks = asks_at([5.5 + 0.01 * n for n in range(6)], answer=400)
    seen: list[tuple[int, int]] = []

    def look(fleet: Fleet) -> None:
        seen.append((fleet.existing, sum(one.ongoing for one in fleet.draining)))

    run = fleet(Sequence([2, *[1] * 11], 6), cold_start_s=0.0, until_s=9.0, check=look).run(asks)
    assert {fate.replica for fate in run.fates} == {"r1", "r2"}
    assert all(fate.outcome == "ok" and fate.tokens == 400 for fate in run.fates)
    assert max(held for _, held in seen) > 0
    assert seen[-1] == (1, 0)


def test_a_drain_has_an_end() -> None:
    asks = asks_at([5.5 + 0.01 * n for n in range(6)], answer=400)
    run = fleet(Sequence([2, 1, 1, 1, 1, 1], 6), cold_start_s=0.0, drain_s=2.0).run(asks)
    cut = [fate for fate in run.fates if fate.outcome == "deadline"]
    assert cut
    assert {fate.replica for fate in cut} == {"r2"}
    assert all(7.9 < fate.ended_at < 9.0 for fate in cut)  # type: ignore[operator]


def test_a_replica_takes_nothing_before_its_cold_start_is_over() -> None:
    asks = asks_at([0.5 * n for n in range(60)])
    run = fleet(Static(2), gated=False, cold_start_s=12.0).run(asks)
    late = [fate for fate in run.fates if fate.replica == "r2"]
    assert late
    assert min(fate.ask.at_s for fate in late) >= 12.0
    assert run.average_replicas == pytest.approx(2.0, abs=0.02)  # it costs while it starts


def outcome(run: FleetRun) -> list[tuple[object, ...]]:
    return [(f.ask.number, f.outcome, f.reason, f.replica, f.tokens) for f in run.fates]


def times(fates: list[Outcome]) -> np.ndarray:
    return np.array([(f.first_at or 0.0, f.ended_at or 0.0) for f in fates])


@pytest.mark.parametrize("gated", [True, False])
def test_skipping_equal_steps_changes_nothing(gated: bool) -> None:
    asks = poisson(2.5, 60.0)
    runs = [
        fleet(Sequence([1, 3, 2], 15), gated=gated, skip=skip).run(asks) for skip in (True, False)
    ]
    assert outcome(runs[0]) == outcome(runs[1])
    np.testing.assert_allclose(times(runs[0].fates), times(runs[1].fates), rtol=0, atol=1e-6)
    assert runs[0].moments == runs[1].moments
    assert {fate.outcome for fate in runs[0].fates} == ({"ok", "shed"} if gated else {"ok"})


def test_skipping_leaves_the_learned_rates_and_decisions_alone() -> None:
    asks = poisson(3.0, 60.0)
    scalers = [ours(), ours()]
    for scaler, skip in zip(scalers, (True, False), strict=True):
        fleet(scaler, skip=skip).run(asks)
    one, other = ([record.target for record in scaler.records] for scaler in scalers)
    assert one == other
    assert max(one) > 1
    rates = [scaler.records[50].seen.capacity for scaler in scalers]  # type: ignore[union-attr]
    assert rates[0].prefill == pytest.approx(rates[1].prefill)
    assert rates[0].decode == pytest.approx(rates[1].decode)


def test_what_was_shed_counts_against_the_slo() -> None:
    run = fleet(Static(1)).run(poisson(8.0, 30.0))
    shed = sum(fate.outcome == "shed" for fate in run.fates)
    assert shed > 20
    assert SLO.attainment(run.fates) <= (len(run.fates) - shed) / len(run.fates)
    served = [fate for fate in run.fates if fate.outcome == "ok"]
    assert SLO.attainment(served) > 0.9


def test_a_fleet_that_has_room_serves_no_worse_than_without_forebay() -> None:
    """What is refused there, or late, would be by Forebay's own doing."""
    engine = replace(PROFILES["l4-8b"], prefix_caching=False, max_num_seqs=64)
    engine = engine.with_forebay_scheduler(part_tokens(engine.max_num_batched_tokens))
    classes = {INTERACTIVE: ClassPolicy(3.0, 6.0), BATCH: ClassPolicy(30.0, 60.0)}
    gate = replace(GATE, classes=classes, slots=64, tpot_s=0.1)
    config, slo = FleetConfig(5, 5, 5, lambda: 5.0), Slo(3.0, 0.1)
    lost = []
    for seed in range(1, 5):  # of a single one, two requests more or less are chance
        asks = chats(7.0, 150.0, seed)
        router = ForebayRouter(np.random.default_rng(1).random)
        gated = Fleet(
            config, lambda name: GatedReplica(name, engine, gate, teach), router, Static(5)
        )
        stock = Fleet(config, lambda name: OpenReplica(name, engine), LeastOngoing(), Static(5))
        behind_it, alone = gated.run(asks).fates, stock.run(asks).fates
        lost.append(slo.attainment(alone) - slo.attainment(behind_it))
        assert p95(behind_it) <= 1.1 * p95(alone)
    assert np.mean(lost) <= 0.006


def p95(fates: list[Outcome]) -> float:
    """Of their times to first token, in seconds."""
    return float(np.percentile([f.ttft_s for f in fates if f.ttft_s is not None], 95))
