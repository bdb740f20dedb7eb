"""Batch at the gate: when it goes on, in which order, and what interactive requests are spared."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from admissions import admission, admission_config, admit, begin
from hypothesis import given, settings
from hypothesis import strategies as st
from one_replica import Ask, OneReplica

from forebay.policies.admission import AdmissionController
from forebay.policies.forecast import BatchPacing, Place
from forebay.policies.forecast.step_law import StepLaw
from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    Admitted,
    Cost,
    StepOutput,
    Ticket,
)

STEP_TOKENS = 2048
SHORT = Cost(sequences=1, prefill_tokens=200, output_tokens=50, output_cap=50)
CONFIG = admission_config(step_tokens=STEP_TOKENS)


def law(base_s: float, per_sequence_s: float, per_token_s: float, noise: float = 0.0) -> StepLaw:
    rng, learned = random.Random(3), StepLaw()
    for _ in range(2_000):
        sequences, tokens = rng.randrange(64), rng.choice([0, 0, 200, 400])
        seconds = base_s + per_sequence_s * sequences + per_token_s * tokens
        learned.add(sequences, tokens, seconds * (1 + noise * rng.uniform(-1, 1)))
    return learned


def controller(config: AdmissionConfig = CONFIG) -> AdmissionController:
    made = admission(config, prefill_rate=40_000.0, step_rate=200.0)
    made.paces.law = law(2.5e-3, 1e-4, 25e-6)
    return made


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_law_of_steps_is_learned_from_steps(noise: float) -> None:
    learned = law(2.5e-3, 1e-4, 25e-6, noise)
    for sequences, tokens in ((1, 0), (60, 0), (30, 400)):
        truth = 2.5e-3 + 1e-4 * sequences + 25e-6 * tokens
        assert learned.seconds(sequences, tokens) == pytest.approx(truth, rel=0.01 + noise / 4)


def test_batch_that_attends_to_much_has_room_for_fewer() -> None:
    rooms = []
    for cached in (0, 6_000):
        policy = controller()
        policy.paces.law.per_context_s = 1e-7
        admit(policy, SHORT, INTERACTIVE)
        admit(policy, replace(SHORT, cached_tokens=cached), BATCH)
        rooms.append(policy.pacing.room(policy.paces.law))
    # Each takes 0.1 ms for its token, 0.1 ms for its prompt, and 22.5 us or 622.5 us to attend.
    assert rooms[0] / rooms[1] == pytest.approx(822.5 / 222.5, rel=0.01)


def test_a_standstill_is_not_taken_for_the_engines_pace() -> None:
    learned = law(2.5e-3, 1e-4, 25e-6)
    before = learned.seconds(30, 200)
    for _ in range(40):
        learned.add(30, 200, 0.01)
    learned.add(30, 200, 9.0)
    for _ in range(40):
        learned.add(30, 200, 0.01)
    assert learned.seconds(30, 200) == pytest.approx(before, rel=0.1)


def test_alone_batch_fills_the_engine_and_beside_interactive_a_few_of_its_steps_wait_there() -> (
    None
):
    alone, beside = controller(), controller()
    begin(beside, admit(beside, SHORT, INTERACTIVE), 0.0)
    for policy in (alone, beside):
        for _ in range(40):
            admit(policy, SHORT, BATCH, now=0.01)
    assert alone.ledger.engine_prefill >= STEP_TOKENS
    few = beside.pacing.step_tokens(beside.paces.law)
    # A step of 7.5 ms has 5.25 ms for answers that take 0.1 ms each and 0.1 ms for prompts.
    assert few == pytest.approx(5.25 / 0.2 * 200 / 50, rel=0.05)
    assert 0 <= beside.ledger.engine_prefill - 3 * few < SHORT.prefill_tokens
    assert {steps_of(alone), steps_of(beside)} == {(0,), (few,)}


def test_where_the_scheduler_heeds_no_marks_prompts_of_batch_come_one_at_a_time() -> None:
    policy = controller(replace(CONFIG, heeds_marks=False))
    begin(policy, admit(policy, SHORT, INTERACTIVE), 0.0)
    for _ in range(40):
        admit(policy, SHORT, BATCH, now=0.01)
    assert policy.ledger.totals[BATCH].in_engine == 1
    assert steps_of(policy) == (0,)


def steps_of(policy: AdmissionController) -> tuple[int, ...]:
    """What the scheduler is told that steps compute of batch."""
    return tuple(
        {
            t.sequences[0].marks.step_tokens
            for t in policy.ledger.tickets
            if t.class_name == BATCH and not t.held
        }
    )


def test_when_interactive_requests_stop_coming_batch_gets_the_engine_back() -> None:
    policy = controller()
    interactive = admit(policy, SHORT, INTERACTIVE)
    for _ in range(60):
        admit(policy, SHORT, BATCH)
    assert policy.ledger.in_engine == 2  # with the interactive prompt, three steps of 105 tokens
    begin(policy, interactive, 5.0)
    assert policy.ledger.in_engine == 3
    policy.observe_step([StepOutput(interactive.sequences[0], 1)], 30.0, 30.0)
    assert policy.ledger.in_engine >= STEP_TOKENS // 200


def test_where_batch_is_computed_a_little_a_step_nobody_takes_the_engine_for_slow() -> None:
    policy, now = controller(), 0.0
    for _ in range(20):
        begin(policy, admit(policy, SHORT, INTERACTIVE), now)
    long = replace(SHORT, prefill_tokens=1_400, output_tokens=800, output_cap=800)
    before = policy.paces.prefill_rate.rate
    for _ in range(10):
        ticket = admit(policy, long, BATCH, now=now)
        prompt = policy.bind(ticket, 1_400, 800)
        few = policy.waits.few
        assert 0 < few < 100
        while prompt.state == "queued":
            now += 0.0025 + 1e-4 * len(policy.ledger.running) + 25e-6 * few
            outputs = [StepOutput(s, 1) for s in policy.ledger.running if s.produced < s.cap]
            if policy.next_step.begun(10_000, now) >= 1_400:
                outputs.append(StepOutput(prompt, 1, cached=0))
            policy.observe_step(outputs, now, now)
    assert policy.paces.prefill_rate.rate > 0.9 * before


def test_the_larger_the_stretch_the_more_of_batch_runs_beside_interactive() -> None:
    rooms = []
    for stretch in (1.0, 1.2, 1.5, 2.0):
        pacing = BatchPacing(STEP_TOKENS, stretch)
        pacing.interactive_came(SHORT, 0.0, cut=False)
        rooms.append(pacing.room(law(2.5e-3, 1e-4, 25e-6)))
    assert rooms == sorted(rooms)
    assert rooms[0] == 1.0  # never none at all
    assert rooms[2] == pytest.approx(0.5 * 7.5e-3 / 1e-4, rel=0.02)  # no batch prompt was seen


def test_who_is_about_to_be_late_does_not_wait_for_the_others_pace() -> None:
    pacing = BatchPacing(STEP_TOKENS, 1.0)
    ticket = Ticket(BATCH, 5, SHORT, admitted_at=0.0, budget_s=30.0, predicted_s=1.0, held=True)
    full = Place(occupied=20, batch=10, ahead_tokens=0, ahead_sequences=0)
    learned = law(2.5e-3, 1e-4, 25e-6)
    for now, expected in ((1.0, False), (29.0, True)):
        pacing.interactive_came(SHORT, now, cut=False)
        assert pacing.may_enter(ticket, full, learned, now) is expected


def test_a_batch_tenant_with_little_goes_before_one_with_much() -> None:
    policy = controller()
    order: list[str] = []
    begin(policy, admit(policy, SHORT, INTERACTIVE), 0.0)
    first = [admit(policy, SHORT, BATCH, tenant="much", now=0.01) for _ in range(10)]
    first.append(admit(policy, SHORT, BATCH, tenant="little", now=0.02))
    order += [ticket.tenant for ticket in first if not ticket.held]
    for number in range(6):
        entered = [
            t for t in policy.ledger.tickets
            if t.class_name == BATCH and not t.held and t.first_token_at is None
        ]  # fmt: skip
        order += [t.tenant for t in begin(policy, entered[0], 0.1 + number / 100)]
    assert "little" in order[:3]


SIZES = st.tuples(st.integers(1, 700), st.integers(1, 60))


@given(
    seed=st.integers(0, 1000),
    interactive=st.floats(0.0, 150.0),
    batch=st.floats(1.0, 200.0),
    sizes=st.tuples(SIZES, SIZES),
    stretch=st.sampled_from([1.0, 1.3, 2.0]),
)
@settings(max_examples=12)
def test_whatever_comes_batch_is_never_forgotten_and_the_engine_never_idle_beside_it(
    seed: int,
    interactive: float,
    batch: float,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    stretch: float,
) -> None:
    rng = random.Random(seed)

    def check(admission: AdmissionController) -> None:
        admission.check_integrity()  # of which one line is that nothing is held beside no work

    replica = OneReplica(batch_stretch=stretch, check=check)
    asks = []
    for rate, name, (prompt, answer) in (
        (interactive, INTERACTIVE, sizes[0]),
        (batch, BATCH, sizes[1]),
    ):
        at = replica.now
        while rate and (at := at + rng.expovariate(rate)) < replica.now + 2.0:
            asks.append(Ask(at, prompt, answer, class_name=name, tenant=rng.choice("ab")))
    fates = replica.run(asks)
    for fate in fates:
        assert (fate.shed is None) == (fate.ticket is not None)
        if fate.ticket is not None:
            assert fate.ticket.closed
            assert not fate.ticket.held or fate.first_at is None
            assert fate.ended_at is not None or fate.first_at is None
    assert replica.admission.ledger.idle
    assert not len(replica.admission.pacing.held)
    served = [f for f in fates if f.ask.class_name == BATCH and f.ticket is not None]
    assert all(f.ended_at is not None for f in served), "batch that was let in was not served"


def test_what_is_held_does_not_fill_the_hard_bound_for_interactive_requests() -> None:
    policy = controller()
    policy.config = replace(CONFIG, max_queued_tokens=2_000)
    begin(policy, admit(policy, SHORT, INTERACTIVE), 0.0)
    while isinstance(policy.decide(SHORT, BATCH, 0.1), Admitted):
        pass
    assert policy.ledger.queued_prefill == 2_000
    assert isinstance(policy.decide(SHORT, INTERACTIVE, 0.2), Admitted)
