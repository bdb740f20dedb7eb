"""What a replica tells routers, and what an emulated one knows of itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from admissions import admission, config_of
from services import limits, replica

from forebay.engine_model import PROFILES
from forebay.policies.admission import AdmissionController
from forebay.policies.forecast import Answers
from forebay.serving.emulated import teach
from forebay.serving.router.picking import read_stats

H100 = PROFILES["h100-8b"]
FEW, STEP_S = 30, 0.008  # prompt tokens of a light load's steps, and what these take


def after_light_load(admission: AdmissionController, steps: int = 4_000) -> None:
    """Short prompts wait for steps beside answers: each step has a few of their tokens."""
    for step in range(steps):
        admission.paces.learn(
            drained=FEW,
            finished=FEW,
            decoded=True,
            engine_at=step * STEP_S,
            answers=Answers(10, 1_000),
            queued=1,
            whole=False,
        )


LIMITS = limits(slots=64, kv_tokens=100_000, step_tokens=8_192, context_tokens=16_384)


def test_routers_are_told_the_pace_that_admission_itself_goes_by() -> None:
    made = replica(engine=LIMITS)
    teach(made.admission, H100)
    after_light_load(made.admission)
    assert made.publish()["prefill_rate"] == made.admission.paces.drain_rate
    assert made.publish()["prefill_rate"] > 2 * FEW / STEP_S


def test_short_prompts_do_not_make_an_emulated_engine_seem_slow() -> None:
    emulated = admission(config_of(H100), context=8_192)
    teach(emulated, H100)
    after_light_load(emulated)
    assert emulated.paces.prefill_rate.rate == pytest.approx(FEW / STEP_S, rel=0.1)
    assert emulated.paces.drain_rate > 2 * FEW / STEP_S


def telling(value: float) -> Callable[[object], float]:
    return lambda _: value


def test_what_a_replica_publishes_is_what_routers_read(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"held_s": 3.0, "answer_s": 5.0, "ongoing": 7.0}
    for name, value in told.items():
        monkeypatch.setattr(AdmissionController, name, property(telling(value)))
    made = replica(engine=LIMITS)
    teach(made.admission, H100)
    stats = read_stats(made.publish())
    assert {name: getattr(stats, name) for name in told} == told
    assert stats.prefill_rate == made.admission.paces.drain_rate > 0
    assert stats.bytes_per_token == made.admission.costs.bytes_per_token > 0
    assert (stats.kv_tokens, stats.context_tokens) == (100_000, 16_384)
    assert stats.wait_s > 0
