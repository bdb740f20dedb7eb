"""Admission as tests need it: its settings, one that lets requests in, and answers that begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forebay.engine_model import EngineProfile
from forebay.policies.admission import AdmissionController
from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    Admitted,
    ClassPolicy,
    Cost,
    CostModel,
    StepOutput,
    Ticket,
)

CLASSES = {
    INTERACTIVE: ClassPolicy(ttft_s=1.0, deadline_s=2.0, weight=8.0),
    BATCH: ClassPolicy(ttft_s=30.0, deadline_s=60.0, weight=1.0),
}


def admission_config(**changes: Any) -> AdmissionConfig:
    """Settings that leave much room, but for those that a test changes."""
    usual = {"classes": CLASSES, "slots": 64, "kv_tokens": 1_000_000, "step_tokens": 2048}
    return AdmissionConfig(**{**usual, **changes})


def config_of(profile: EngineProfile, **changes: Any) -> AdmissionConfig:
    """As the gate of an emulated engine has them."""
    limits = {
        "slots": profile.max_num_seqs,
        "kv_tokens": profile.kv_tokens,
        "step_tokens": profile.max_num_batched_tokens,
    }
    return admission_config(**{**limits, **changes})


def admission(
    config: AdmissionConfig | None = None,
    *,
    context: int = 4096,
    jitter: Callable[[], float] = lambda: 0.0,
    prefill_rate: float | None = None,
    step_rate: float | None = None,
    to_the_limit: bool = False,
) -> AdmissionController:
    """One that has learned its engine's rates, in tokens/s and steps/s, if they are given.

    With `to_the_limit` it has seen answers run to theirs.
    """
    made = AdmissionController(config or admission_config(), CostModel(context, 64), jitter)
    if prefill_rate is not None:
        made.paces.prefill_rate.seed(prefill_rate, 1.0)
    if step_rate is not None:
        made.paces.step_rate.seed(step_rate, 1.0)
    for _ in range(64 if to_the_limit else 0):
        made.costs.outputs.passed(0, context)
    return made


def admit(
    policy: AdmissionController,
    cost: Cost,
    name: str = INTERACTIVE,
    *,
    tenant: str = "",
    now: float = 0.0,
) -> Ticket:
    """The ticket of a request that must be let in."""
    decision = policy.decide(cost, name, now, tenant)
    assert isinstance(decision, Admitted), decision
    return decision.ticket


def begin(policy: AdmissionController, ticket: Ticket, now: float = 0.0) -> list[Ticket]:
    """The first token of each of its answers, in one step; who may enter the engine then."""
    bound = [policy.bind(ticket, one.prompt, one.cap) for one in list(ticket.sequences)]
    return policy.observe_step([StepOutput(one, 1, cached=0) for one in bound], now, now)
