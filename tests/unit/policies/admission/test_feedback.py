"""What admission learns of what the engine did: from whom, and from whom not."""

from __future__ import annotations

import pytest
from admissions import admission, admission_config

from forebay.policies.admission import AdmissionController
from forebay.policies.request import (
    INTERACTIVE,
    Admitted,
    Cost,
    StepOutput,
    Ticket,
)

PROMISED_S, SLOW_S = 0.05, 0.5  # a token
SHORT = Cost(sequences=1, prefill_tokens=100, output_tokens=50, output_cap=50)
MANY = 100  # answers that end


def controller() -> AdmissionController:
    config = admission_config(tpot_s=PROMISED_S)
    return admission(config, prefill_rate=10_000.0, step_rate=100.0)


def arrive(policy: AdmissionController, now: float) -> Ticket:
    ticket = on_its_way(policy, now)
    reach_engine(policy, ticket, now)
    return ticket


def on_its_way(policy: AdmissionController, now: float) -> Ticket:
    decision = policy.decide(SHORT, INTERACTIVE, now)
    assert isinstance(decision, Admitted), decision
    return decision.ticket


def reach_engine(policy: AdmissionController, ticket: Ticket, now: float) -> None:
    policy.entered(ticket, now)
    for sequence in ticket.sequences:
        policy.bind(ticket, sequence.prompt, sequence.cap)


def two_tokens(policy: AdmissionController, ticket: Ticket, now: float) -> float:
    """The first and a second one, much later than is promised."""
    (sequence,) = ticket.sequences
    policy.observe_step([StepOutput(sequence, 1, cached=0)], now, now)
    policy.observe_step([StepOutput(sequence, 1)], now + SLOW_S, now + SLOW_S)
    return now + SLOW_S


@pytest.mark.parametrize("at_stop_string", [False, True])
def test_slow_answers_are_seen_to_be_slow_however_they_end(at_stop_string: bool) -> None:
    policy, now = controller(), 0.0
    for _ in range(MANY):
        ticket = arrive(policy, now)
        now = two_tokens(policy, ticket, now)
        if at_stop_string:
            policy.end(ticket.sequences[0], natural=True, now=now)
        else:
            policy.observe_step([StepOutput(ticket.sequences[0], 1, ended=True)], now, now)
        policy.close(ticket, now)
        policy.check_integrity()
    assert policy.room.pace.margin.share < 1.0


def test_answers_that_failed_say_nothing_of_the_pace() -> None:
    policy, now = controller(), 0.0
    for _ in range(MANY):
        ticket = arrive(policy, now)
        now = two_tokens(policy, ticket, now)
        policy.end(ticket.sequences[0], natural=False, now=now)
        policy.close(ticket, now)
    assert policy.room.pace.margin.share == 1.0


def test_who_is_on_the_way_to_an_idle_engine_does_not_make_it_seem_to_stall() -> None:
    policy = controller()
    before = arrive(policy, 0.0)
    policy.close(before, two_tokens(policy, before, 0.0))
    slow = on_its_way(policy, 10.0)  # vLLM fetches its image
    assert policy.predict(SHORT, INTERACTIVE, 18.0).stalled_s == 0.0
    quick = arrive(policy, 18.0)
    policy.close(quick, two_tokens(policy, quick, 18.0))
    reach_engine(policy, slow, 30.0)
    assert policy.predict(SHORT, INTERACTIVE, 30.01).stalled_s == 0.0


def test_an_engine_that_has_it_and_says_nothing_stalls() -> None:
    policy = controller()
    slow = on_its_way(policy, 0.0)
    reach_engine(policy, slow, 10.0)
    assert policy.predict(SHORT, INTERACTIVE, 18.0).stalled_s == pytest.approx(8.0, abs=0.2)


def test_what_is_computed_for_a_burst_is_not_what_was_for_who_left_before_it() -> None:
    policy = controller()
    for step in range(200):
        running, tokens = step % 40, 200 * (step % 7)
        policy.paces.law.add(running, tokens, 0.01 + 0.002 * running + 0.0001 * tokens)
    gone = arrive(policy, 0.0)
    policy.close(gone, 0.1)  # before its first token: no step was seen
    first, _ = on_its_way(policy, 5.0), on_its_way(policy, 5.0)
    reach_engine(policy, first, 5.0)
    assert policy.next_step.computed(policy.ledger.engine_prefill, 5.0) == 0.0
    assert policy.predict(SHORT, INTERACTIVE, 5.0).ahead_s > 0.0
