"""What is shared out between flows, waited for and kept free: by the cache as well as by slots."""

from __future__ import annotations

from dataclasses import replace

import pytest
from admissions import admission, admission_config, admit
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.admission import AdmissionController
from forebay.policies.fairness import HeldQueue
from forebay.policies.forecast import Answers, Ledger, Paces
from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    Admitted,
    ClassPolicy,
    Cost,
    Shed,
    StepOutput,
    Ticket,
)

CONFIG = admission_config(slots=256, kv_tokens=40_000)
USUAL = Cost(sequences=1, prefill_tokens=900, output_tokens=100, output_cap=100)  # 40 fit


def controller(config: AdmissionConfig = CONFIG) -> AdmissionController:
    made = admission(config, context=8192, prefill_rate=1e5, step_rate=100.0, to_the_limit=True)
    law = made.paces.law
    law.base_s, law.per_sequence_s, law.per_token_s = 5e-3, 5e-4, 1e-5
    return made


def running(
    policy: AdmissionController, tenant: str, cost: Cost = USUAL, name: str = INTERACTIVE
) -> Ticket:
    """An answer that has begun."""
    ticket = admit(policy, cost, name, tenant=tenant)
    sequence = policy.bind(ticket, cost.prefill_tokens, cost.output_cap)
    policy.observe_step([StepOutput(sequence, 1, cached=0)], 0.0, 0.0)
    return ticket


def refusal(policy: AdmissionController, cost: Cost, tenant: str) -> str | None:
    decision = policy.decide(cost, INTERACTIVE, 0.05, tenant)
    return decision.reason if isinstance(decision, Shed) else None


def where_a_has_its_part_and_b_has_none() -> AdmissionController:
    """Both ask for all of the cache, and it is known what the parts are."""
    policy = controller()
    for _ in range(100):
        for tenant in "ab":
            policy.room.offered((tenant, INTERACTIVE), USUAL, 0.0)
    for _ in range(21):
        running(policy, "a")
    assert refusal(policy, USUAL, "a") == "fair_share"
    return policy


def test_who_has_its_part_is_told_when_an_answer_ends() -> None:
    policy = where_a_has_its_part_and_b_has_none()
    refused = policy.decide(USUAL, INTERACTIVE, 0.05, "a")
    assert isinstance(refused, Shed)
    assert refused.reason == "fair_share"
    assert refused.retry_after_s == pytest.approx(policy.waits.ends_s(USUAL, 1))
    assert refused.retry_after_s > 0.5, "not the least that anybody is told"


def test_two_who_ask_for_all_of_the_cache_have_half_of_it_each_however_large_they_are() -> None:
    policy = controller()
    large = replace(USUAL, prefill_tokens=1_900)
    for _ in range(200):  # what both ask for is known
        policy.room.offered(("a", INTERACTIVE), USUAL, 0.0)
        policy.room.offered(("b", INTERACTIVE), large, 0.0)
    held = {"a": 0, "b": 0}
    for tenant, cost in 40 * (("a", USUAL), ("b", large)):
        decision = policy.decide(cost, INTERACTIVE, 0.0, tenant)
        held[tenant] += isinstance(decision, Admitted)
    assert held["a"] * USUAL.kv_tokens == pytest.approx(20_000, rel=0.1)
    assert held["b"] * large.kv_tokens == pytest.approx(20_000, rel=0.1)


def test_a_herd_of_requests_for_many_answers_finds_no_gap() -> None:
    policy = controller(replace(CONFIG, slots=64, kv_tokens=1_000_000))
    many = Cost(sequences=8, prefill_tokens=80, output_tokens=800, output_cap=100)
    for _ in range(100):
        for tenant in "ab":
            policy.room.offered((tenant, INTERACTIVE), many, 0.0)
    for _ in range(16):
        policy.decide(many, INTERACTIVE, 0.0, "a")
    assert policy.ledger.held["a", INTERACTIVE] <= 32 + 8


def test_where_one_has_its_part_of_the_cache_others_are_let_in() -> None:
    policy = where_a_has_its_part_and_b_has_none()
    assert refusal(policy, USUAL, "b") is None


def test_a_herd_of_somebody_new_is_held_to_its_part() -> None:
    policy = where_a_has_its_part_and_b_has_none()
    for _ in range(40):
        decision = policy.decide(USUAL, INTERACTIVE, 0.05, "c")
        if isinstance(decision, Admitted):
            sequence = policy.bind(decision.ticket, 900, 100)
            policy.observe_step([StepOutput(sequence, 1, cached=0)], 0.05, 0.05)
    assert policy.ledger.held["c", INTERACTIVE] == pytest.approx(40 / 3, abs=1)


def test_batch_leaves_an_eighth_of_the_cache_to_who_comes_out_of_the_blue() -> None:
    policy = controller()
    for _ in range(60):
        policy.decide(USUAL, BATCH, 0.0)
        for ticket in [t for t in policy.ledger.tickets if not t.held and not t.first_token_at]:
            if not ticket.sequences[0].bound:
                sequence = policy.bind(ticket, 900, 100)
                policy.observe_step([StepOutput(sequence, 1, cached=0)], 0.0, 0.0)
    assert policy.ledger.kv_tokens == pytest.approx(7 / 8 * 40_000, abs=1_000)


def test_batch_that_is_about_to_be_late_goes_in_whatever_the_pace() -> None:
    policy = controller(replace(CONFIG, kv_tokens=1_000_000, tpot_s=0.03))
    batch = replace(USUAL, prefill_tokens=10)
    running(policy, "", batch, BATCH)
    while policy.room.leaves_enough(batch):
        running(policy, "")
    decision = policy.decide(batch, BATCH, 0.0)
    assert isinstance(decision, Admitted)
    assert decision.ticket.held
    of_it = next(iter(policy.ledger.running))
    policy.observe_step([StepOutput(of_it, 1)], 15.0, 15.0)
    assert decision.ticket.held
    policy.observe_step([StepOutput(of_it, 1)], 29.0, 29.0)
    assert not decision.ticket.held


def test_who_is_behind_in_the_queue_takes_no_cache_from_who_goes_before() -> None:
    policy = controller()
    policy.pacing.held.in_turn = lambda: iter(())  # type: ignore[method-assign]
    for _ in range(40):  # a full cache of batch, queued in the engine
        decision = policy.decide(USUAL, BATCH, 0.0)
        assert isinstance(decision, Admitted)
        if decision.ticket.held:
            policy.pacing.enters(decision.ticket)
            policy.ledger.release(decision.ticket)
    assert policy.ledger.kv_tokens >= 39_000
    assert policy.predict(USUAL, INTERACTIVE, 0.0).release_s == 0.0
    assert policy.predict(USUAL, BATCH, 0.0).release_s > 0.0


def test_a_long_prompt_is_not_refused_for_itself() -> None:
    promise = ClassPolicy(ttft_s=1.0, deadline_s=20.0)
    classes = {INTERACTIVE: promise, BATCH: promise}
    policy = controller(replace(CONFIG, classes=classes, kv_tokens=1_000_000))
    policy.paces.prefill_rate.seed(3_000.0, 1.0)
    running(policy, "")
    assert refusal(policy, replace(USUAL, prefill_tokens=6_000), "") is None


# --- how fast a queue drains --------------------------------------------------------------


def drained(tokens: int, *, whole: bool) -> Paces:
    """An engine that was seen to compute so many prompt tokens in steps of 10 ms with answers."""
    paces = Paces(64, 8192)
    law = paces.law
    law.base_s, law.per_sequence_s, law.per_token_s = 9.7e-3, 1e-5, 1e-5
    paces.warmed_up()
    for number in range(1_500):
        paces.learn(
            drained=tokens,
            finished=tokens,
            decoded=False,
            engine_at=0.01 * number,
            answers=Answers(10, 1_000),
            queued=3,
            whole=whole,
        )
    return paces


def test_a_few_short_prompts_beside_answers_do_not_make_a_long_one_look_hopeless() -> None:
    # 8,192 tokens take 92 ms by the law; at 30 in 10 ms, 1,700 would take 0.57 s.
    assert drained(30, whole=False).prompts_s(1_700) < 0.1


def test_whole_steps_that_were_seen_are_believed() -> None:
    assert drained(30, whole=True).prompts_s(1_700) == pytest.approx(0.567, rel=0.1)


# --- the order at the gate ----------------------------------------------------------------


def held(tag: int, tenant: str) -> Ticket:
    return Ticket(BATCH, tag, USUAL, 0.0, 30.0, 0.0, tenant, held=True)


@given(
    tags=st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcd")), max_size=30),
    full=st.sets(st.sampled_from("abcd")),
)
def test_the_gate_is_gone_through_by_tag_but_for_flows_that_have_their_part(
    tags: list[tuple[int, str]], full: set[str]
) -> None:
    queue, tickets = HeldQueue(), [held(tag, tenant) for tag, tenant in sorted(tags)]
    for ticket in tickets:
        queue.add(ticket)
    let_go = []
    for ticket in queue.in_turn():
        if ticket.tenant not in full:
            queue.remove(ticket)
            let_go.append(ticket)
        queue.check_integrity()
    assert [t.tag for t in let_go] == [tag for tag, tenant in sorted(tags) if tenant not in full]
    assert len(queue) == sum(tenant in full for _, tenant in tags)


@given(
    queued=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 500)), max_size=30),
    tag=st.integers(-1, 10),
)
def test_the_cache_ahead_of_a_tag_is_that_of_what_runs_and_of_smaller_tags(
    queued: list[tuple[int, int]], tag: int
) -> None:
    ledger = Ledger((INTERACTIVE, BATCH), 256)
    for place, tokens in queued:
        cost = replace(USUAL, prefill_tokens=tokens)
        ledger.open(Ticket(INTERACTIVE, place, cost, 0.0, 1.0, 0.0), 100.0)
    for ticket in list(ledger.tickets)[::3]:
        ledger.start(ticket.sequences[0])
    sequences = [(t, t.sequences[0]) for t in ledger.tickets]
    ahead = [s.kv_tokens for t, s in sequences if s.state == "running" or t.tag <= tag]
    assert ledger.kv_before(tag) == sum(ahead)
    ledger.check_integrity()
