"""What a replica says that it sustains, beside what its engine does, in virtual time."""

from __future__ import annotations

import numpy as np
import pytest
from admissions import config_of

from forebay.engine_model import PROFILES
from forebay.policies.request import BATCH, INTERACTIVE, ClassPolicy
from forebay.policies.scaling import Capacity, Demand, need
from forebay.serving.app.emulated_server import served
from forebay.serving.emulated import teach
from forebay.simulate import GatedReplica, Outcome, SimRequest

ENGINE = served(PROFILES["h100-8b"])
TPOT_S = 0.05
GATE = config_of(
    ENGINE,
    classes={INTERACTIVE: ClassPolicy(1.0, 3.0), BATCH: ClassPolicy(6.0, 30.0)},
    tpot_s=TPOT_S,
)
SECONDS = 6.0


def work_of(prompt: int, answer: int) -> float:
    """Replicas that one such request a second keeps busy at the promised pace, by the profile.

    A step of T seconds makes a token of each answer and computes the prompts that came in it:
    T = base + x T w at x requests/s of w seconds of work each.
    """
    law = ENGINE.step_time
    prompt_s = law.prefill_token * prompt + law.prefill_pair * prompt**2 / 2
    token_s = law.decode_sequence + law.context_token * (prompt + answer / 2)
    return (prompt_s + answer * token_s) / (1.0 - law.base / TPOT_S)


@pytest.mark.parametrize("load", [0.3, 0.8, 2.0])
@pytest.mark.parametrize(
    ("prompt", "answer", "off"),
    [  # the longer a prompt, the more each of its tokens takes: the law has the mean
        (1000, 100, 0.03), (100, 10, 0.03), (200, 400, 0.03), (4000, 20, 0.1), (8000, 200, 0.15)
    ],
)  # fmt: skip
def test_what_replicas_sustain_says_how_many_a_load_needs(
    prompt: int, answer: int, off: float, load: float
) -> None:
    rate = load / work_of(prompt, answer)
    replica, rng, now, number = (
        GatedReplica("one", ENGINE, GATE, teach), np.random.default_rng(1), 0.0, 0
    )  # fmt: skip
    while now < SECONDS:
        number, now = number + 1, now + rng.exponential(1.0 / rate)
        replica.advance(now)
        replica.arrive(Outcome(SimRequest(number, now, prompt, answer, answer)), now)
    told = replica.reading()
    capacity = Capacity(told.prefill_rate, told.decode_rate, told.kv_tokens, "learned")
    found = need(Demand(rate * prompt, rate * answer), capacity)
    assert found.prefill + found.decode == pytest.approx(load, rel=off)
