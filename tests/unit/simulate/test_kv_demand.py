"""What requests ask of KV caches, as autoscalers hear it, and what they take, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import fmean, median

import numpy as np
import pytest
from admissions import config_of

from forebay.engine_model import PROFILES, EngineProfile
from forebay.policies.request import BATCH, INTERACTIVE, ClassPolicy
from forebay.policies.routing import Prompt, chunk_hashes
from forebay.policies.scaling import Autoscaler, LimitConfig, ScalingConfig
from forebay.policies.scaling.sizing import Need
from forebay.serving.app.emulated_server import served
from forebay.serving.emulated import teach
from forebay.simulate import (
    Fleet,
    FleetConfig,
    FleetRun,
    ForebayRouter,
    GatedReplica,
    SimRequest,
    Slo,
    TokenScaler,
)

SECONDS = 180.0
SETTLED_S = 60.0  # by then answers are known, and as many begin as end


@dataclass(frozen=True)
class Service:
    """One replica, and more if its policy asks for them."""

    engine: EngineProfile
    slo: Slo
    most: int = 8

    def run(self, asks: list[SimRequest]) -> tuple[FleetRun, list[Need], list[float]]:
        """What became of them, what was needed as it was told, and the cache's use, each second."""
        interactive = ClassPolicy(self.slo.ttft_s, 2 * self.slo.ttft_s)
        classes = {INTERACTIVE: interactive, BATCH: ClassPolicy(30.0, 60.0)}
        gate = config_of(self.engine, classes=classes, tpot_s=self.slo.tpot_s)
        replicas: list[GatedReplica] = []
        used: list[float] = []

        def make(name: str) -> GatedReplica:
            replicas.append(GatedReplica(name, self.engine, gate, teach))
            return replicas[-1]

        def look(_: Fleet) -> None:
            for replica in replicas:
                replica.admission.check_integrity()
            used.append(sum(replica.player.model.kv_usage for replica in replicas))

        scaler = TokenScaler(
            Autoscaler(ScalingConfig(), LimitConfig(1, self.most), cold_start_s=30.0)
        )
        router = ForebayRouter(np.random.default_rng(1).random)
        run = Fleet(FleetConfig(1, self.most, 1, lambda: 30.0), make, router, scaler, look).run(
            asks
        )
        settled = [r for r in scaler.records if SETTLED_S <= r.at < SECONDS]
        needs = [record.wanted.need for record in settled if record.wanted is not None]
        return run, needs, used[2 * int(SETTLED_S) : 2 * int(SECONDS)]


def poisson(rate: float, prompt: int, answer: int, seconds: float = SECONDS) -> list[SimRequest]:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.exponential(1 / rate, int(2 * rate * seconds)))
    return [SimRequest(n, float(at), prompt, answer) for n, at in enumerate(times) if at < seconds]


def most(run: FleetRun) -> int:
    return max(moment.target for moment in run.moments)


@pytest.mark.parametrize(
    ("name", "rate", "figures"),  # by cache, by steps, in use
    [("h100-32b", 0.7, (0.47, 0.50, 0.23)), ("h100-8b", 1.0, (0.38, 0.39, 0.11))],
)
def test_slots_that_the_cache_has_no_room_for_ask_for_no_replicas(
    name: str, rate: float, figures: tuple[float, float, float]
) -> None:
    service = Service(served(PROFILES[name]), Slo(2.0, 0.1))
    assert service.engine.max_num_seqs == 1024  # vLLM's default; some 64 or 90 of these fit
    run, needs, used = service.run(poisson(rate, 4000, 1000))
    assert service.slo.attainment(run.fates) == 1.0
    assert most(run) == 1
    told = fmean(n.kv for n in needs), fmean(n.prefill + n.decode for n in needs), fmean(used)
    assert told == pytest.approx(figures, abs=0.02)


PROMPT, PREFIX, ANSWER = 6200, 6000, 300
_TEXT = bytes(4 * PREFIX)  # what a router reads of it: zeros, four bytes a token


def with_a_system_prompt(rate: float, seconds: float) -> list[SimRequest]:
    """Requests whose prompts begin with the same tokens."""
    shared, text = list(range(-PREFIX, 0)), Prompt(4 * PROMPT, chunk_hashes(_TEXT))
    return [
        replace(ask, ids=[*shared, *range(own, own + 200)], text=text, max_tokens=ANSWER)
        for ask in poisson(rate, PROMPT, ANSWER, seconds)
        for own in [1000 * ask.number]
    ]


def test_answers_that_nobody_knows_yet_buy_no_replicas() -> None:
    """Until some were seen, admission takes answers to run on; counted so, these asked for four."""
    service = Service(served(PROFILES["l4-8b"]), Slo(2.0, 0.1))
    run, needs, _ = service.run(poisson(2.5, 800, 150))
    assert 0.4 < fmean(need.total for need in needs) < 0.7
    assert most(run) == 1
    assert service.slo.attainment(run.fates) == 1.0


def test_a_system_prompt_is_held_once_however_many_run_with_it() -> None:
    service = Service(served(PROFILES["h100-8b"]), Slo(2.0, 0.1))
    run, needs, used = service.run(with_a_system_prompt(7.0, SECONDS))
    assert service.slo.attainment(run.fates) == 1.0
    assert most(run) == 1
    told = fmean(n.kv for n in needs), fmean(n.prefill + n.decode for n in needs), fmean(used)
    assert told == pytest.approx((0.27, 0.79, 0.06), abs=0.02)


def test_a_cache_that_others_share_is_no_reason_to_refuse() -> None:
    service = Service(served(PROFILES["h100-8b"]), Slo(2.0, 0.1), most=1)
    run, _, _ = service.run(with_a_system_prompt(12.0, 40.0))
    assert {fate.reason for fate in run.fates if fate.outcome != "ok"} <= {"tpot"}  # as it should


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "attained", "pace_s"), [(1, 0.73, 0.099), (8, 0.99, 0.021)]  # docs/admission.md
)  # fmt: skip
def test_contexts_of_a_dozen_times_those_taught_keep_the_promised_pace(
    replicas: int, attained: float, pace_s: float
) -> None:
    service = Service(served(PROFILES["h100-8b"]), Slo(2.0, 0.1), replicas)
    run, _, _ = service.run(with_a_system_prompt(12.0, 240.0))  # 1.41 replicas' work
    paces = [fate.tpot_s for fate in run.fates if fate.tpot_s and fate.ask.at_s > 10.0]
    assert median(paces) == pytest.approx(pace_s, abs=0.002)
    assert service.slo.attainment(run.fates) == pytest.approx(attained, abs=0.01)
    assert most(run) <= 2
