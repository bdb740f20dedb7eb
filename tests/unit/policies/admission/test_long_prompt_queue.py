"""Prompts that take much of the budget are computed one after the other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from admissions import CLASSES, admission, admission_config

from forebay.policies.forecast.error_bound import ErrorBound
from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    Admitted,
    ClassPolicy,
    Cost,
    Decision,
    StepOutput,
    Ticket,
    part_tokens,
)

STEP_TOKENS = 256
PART = part_tokens(STEP_TOKENS)
RATE = 1000.0  # tokens/s: a prompt of 300 takes more than a quarter of the budget
CONFIG = admission_config(
    classes={**CLASSES, INTERACTIVE: ClassPolicy(ttft_s=1.0, deadline_s=20.0, weight=8.0)},
    step_tokens=STEP_TOKENS,
)


class Gate:
    """An admission whose releases are noted."""

    def __init__(self, rate: float = RATE, *, heeds_marks: bool = True) -> None:
        config = replace(CONFIG, heeds_marks=heeds_marks)
        self.policy = admission(config, context=16_384)
        self.policy.paces.prefill_rate.seed(rate, 1e6)
        self.released: list[Ticket] = []

    def ask(self, tokens: int, now: float, name: str = INTERACTIVE) -> Decision:
        return self.policy.decide(Cost(1, tokens, 10, 10), name, now)

    def admit(self, tokens: int, now: float, name: str = INTERACTIVE) -> Ticket:
        decision = self.ask(tokens, now, name)
        assert isinstance(decision, Admitted), decision
        if not decision.ticket.held:
            self.policy.entered(decision.ticket, now)
        if name == BATCH:
            self.released += decision.released
        return decision.ticket

    def first_token(self, ticket: Ticket, now: float) -> None:
        sequence = self.policy.bind(ticket, ticket.cost.prefill_tokens, 10)
        self.released += self.policy.observe_step([StepOutput(sequence, 1, cached=0)], now, now)
        self.policy.check_integrity()

    def close(self, ticket: Ticket, now: float) -> None:
        self.released += self.policy.close(ticket, now)


def test_the_second_long_prompt_waits_for_the_first() -> None:
    gate = Gate()
    first, second = gate.admit(300, 0.0), gate.admit(300, 0.01)
    assert (first.held, second.held) == (False, True)
    gate.first_token(first, 0.3)
    assert gate.released == [second]
    assert not second.held


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    gate = Gate()
    gate.admit(300, 0.0)
    assert not gate.admit(PART, 0.01).held


def test_nobody_waits_where_prompts_take_little_of_the_budget() -> None:
    gate = Gate(rate=100_000.0)
    assert not any(gate.admit(300, 0.0).held for _ in range(8))


def arriving(tokens: int) -> Ticket:
    """One that is not in the ledger yet."""
    return Ticket(INTERACTIVE, 10**9, Cost(1, tokens, 10, 10), 0.0, 1.0, tokens / RATE)


@pytest.mark.parametrize(("before", "waits"), [(300, True), (600, True), (1500, False)])
def test_a_prompt_does_not_wait_for_one_that_is_much_longer(before: int, waits: bool) -> None:
    gate = Gate()
    gate.admit(before, 0.0)
    assert gate.policy.turns.waits(arriving(400), 0.4, 0.0) == waits


def test_they_enter_in_the_order_of_arrival_and_one_that_leaves_lets_the_next_go() -> None:
    gate = Gate(rate=1150.0)
    gate.policy.waits.lateness = ErrorBound(constant_s=0.25, ceiling_s=0.5, _squares=0.0)
    first, second, third = (gate.admit(290, 0.0) for _ in range(3))
    assert [one.held for one in (first, second, third)] == [False, True, True]
    gate.close(second, 0.1)
    assert not gate.released
    gate.first_token(first, 0.3)
    assert gate.released == [third]


def known(gate: Gate) -> Gate:
    """Its engine computes a part of 32 tokens in 33 ms: a prompt of 600 takes 0.6 s."""
    law = gate.policy.paces.law
    law.base_s, law.per_sequence_s, law.per_token_s = 0.001, 0.0001, 0.001
    return gate


def test_very_long_ones_that_give_way_are_computed_one_after_the_other() -> None:
    gate = known(Gate())
    first, second, third = (gate.admit(600, 0.01 * number) for number in range(3))
    assert all(one.steps_aside for one in (first, second, third))
    assert [one.held for one in (first, second, third)] == [False, True, True]
    assert not gate.admit(PART, 0.03).held
    gate.first_token(first, 0.7)
    assert gate.released == [second]
    gate.close(second, 0.8)
    assert gate.released == [second, third]
    assert [one.marks.until_answer for one in third.sequences] == [True]


def test_nobody_is_late_for_one_that_gives_way_and_so_nobody_refused() -> None:
    gate = known(Gate())
    gate.policy.waits.lateness = ErrorBound(constant_s=0.25, ceiling_s=0.5, _squares=0.0)
    assert gate.admit(600, 0.0).steps_aside
    for _ in range(2):  # the second could begin after 0.8 s, if it waited for the 600
        assert isinstance(gate.policy.decide(Cost(1, 180, 10, 10), INTERACTIVE, 0.0, "a"), Admitted)
    overtakes = gate.policy.decide(Cost(1, 100, 10, 10), INTERACTIVE, 0.0, "b")
    assert isinstance(overtakes, Admitted), overtakes


def test_batch_does_not_come_between_one_that_gives_way_and_its_turn_but_before_its_tag() -> None:
    gate = known(Gate())
    first = gate.admit(600, 0.0)
    batch = gate.admit(100, 0.0, BATCH)
    second = gate.admit(600, 0.0)
    later = gate.admit(100, 0.0, BATCH)
    assert batch.held
    assert batch.tag < second.tag
    gate.policy.check_integrity()
    gate.first_token(first, 0.7)
    assert gate.released == [batch]
    gate.policy.entered(batch, 0.7)
    gate.first_token(batch, 0.8)
    assert second in gate.released
    assert later.held == (later.tag > second.tag)


def test_batch_is_not_waited_for() -> None:
    gate = Gate()
    assert not gate.admit(600, 0.0, BATCH).held  # the engine is idle
    assert not gate.policy.turns.waits(arriving(400), 0.4, 0.0)


def test_who_comes_does_not_make_one_late_whose_steps_it_shares() -> None:
    gate = Gate()
    gate.policy.waits.lateness = ErrorBound(constant_s=0.25, ceiling_s=0.5, _squares=0.0)
    gate.admit(500, 0.0)
    assert isinstance(gate.ask(128, 0.0), Admitted)
    late = gate.ask(64, 0.35)  # 500 + 128 + 64 tokens would take until 1.04
    assert not isinstance(late, Admitted)
    assert late.reason == "promise_kept"


def test_what_is_computed_is_not_waited_for() -> None:
    gate = Gate(rate=10_000.0)
    law = gate.policy.paces.law
    law.base_s, law.per_sequence_s, law.per_token_s = 0.0001, 0.0001, 0.0001
    gate.admit(1000, 0.0)
    long = Cost(1, 4000, 10, 10)  # takes turns
    waits = [gate.policy.predict(long, INTERACTIVE, at).ahead_s for at in (0.0, 0.05, 0.09)]
    assert waits == pytest.approx([0.1, 0.05, 0.01], abs=0.01)


@pytest.mark.parametrize(("gives_way", "parts"), [(True, 1), (False, 2)])
def test_a_short_prompt_waits_for_a_step_or_two_of_a_long_one_and_no_more(
    gives_way: bool, parts: int
) -> None:
    gate = Gate(rate=10_000.0, heeds_marks=gives_way)
    law = gate.policy.paces.law
    law.base_s, law.per_sequence_s, law.per_token_s = 0.001, 0.0001, 0.0001
    assert gate.admit(9000, 0.0).gives_way == gives_way
    small = Cost(1, 10, 10, 10)
    waits = [gate.policy.predict(small, INTERACTIVE, at).ahead_s for at in (0.0, 0.5)]
    assert waits == pytest.approx([parts * PART / 10_000] * 2)


def test_an_engine_that_never_has_a_queue_still_tells_how_fast_prompts_drain() -> None:
    gate = Gate()
    gate.policy.paces.prefill_rate.seed(50_000.0, 0.05)
    for k in range(40):
        ticket = gate.admit(1000, float(k))
        gate.first_token(ticket, k + 0.5)
        gate.close(ticket, k + 0.6)
    assert gate.policy.paces.prefill_rate.rate == pytest.approx(2000, rel=0.1)
