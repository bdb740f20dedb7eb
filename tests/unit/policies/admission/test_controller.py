"""What a platform engineer relies on: who is refused, why, and what the refusal promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from admissions import admission, admission_config, admit, begin

from forebay.policies.admission import AdmissionController
from forebay.policies.forecast.error_bound import ErrorBound
from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    Admitted,
    ClassPolicy,
    Cost,
    Decision,
    RequestShape,
    Shed,
    StepOutput,
)

CONFIG = admission_config(
    classes={
        INTERACTIVE: ClassPolicy(ttft_s=1.0, deadline_s=2.0),
        BATCH: ClassPolicy(ttft_s=30.0, deadline_s=60.0),
    },
    margin=0.25,
)
SHORT = Cost(sequences=1, prefill_tokens=100, output_tokens=50, output_cap=50)


def controller(
    config: AdmissionConfig = CONFIG, jitter: Callable[[], float] = lambda: 0.0
) -> AdmissionController:
    made = admission(config, jitter=jitter, prefill_rate=1e4, step_rate=100.0, to_the_limit=True)
    made.waits.lateness = ErrorBound(constant_s=0.25, ceiling_s=0.5, _squares=0.0)
    return made


def fill(policy: AdmissionController, cost: Cost, name: str = INTERACTIVE) -> tuple[int, Shed]:
    """Offer the same request until one is refused: (how many were admitted, the refusal)."""
    for count in range(10_000):
        decision: Decision = policy.decide(cost, name, 0.0)
        if isinstance(decision, Shed):
            return count, decision
    raise AssertionError("never refused")


def test_an_idle_replica_admits_even_what_it_cannot_serve_within_the_budget() -> None:
    giant = replace(SHORT, prefill_tokens=50_000)
    decision = controller().decide(giant, INTERACTIVE, 0.0)
    assert isinstance(decision, Admitted)
    assert decision.predicted_s == pytest.approx(5.0)


def test_a_long_prompt_is_judged_by_the_wait_before_it_unless_its_deadline_would_abort_it() -> None:
    policy = controller()
    begin(policy, admit(policy, SHORT))
    late = policy.decide(replace(SHORT, prefill_tokens=21_000), INTERACTIVE, 0.0)
    assert isinstance(late, Shed)
    assert late.reason == "ttft_budget"
    admit(policy, replace(SHORT, prefill_tokens=19_000))  # 1.9 s of computing, and 2 s until then


def test_queue_is_bounded_by_tokens_not_by_requests() -> None:
    # 10,000 tokens/s and 0.75 s of budget after the margin: 7,500 tokens, in any packing.
    few, shed = fill(controller(), replace(SHORT, prefill_tokens=1_000))
    wide = replace(CONFIG, slots=1024)
    many, _ = fill(controller(wide), replace(SHORT, prefill_tokens=100))
    assert shed.reason == "ttft_budget"
    assert few == 7
    assert many == 75


def test_hard_bound_holds_whatever_is_predicted() -> None:
    policy = controller(replace(CONFIG, max_queued_tokens=450))
    count, shed = fill(policy, SHORT)
    assert (count, shed.reason) == (4, "queue_full")


def test_full_slots_make_a_wait_that_follows_the_answers_still_to_come() -> None:
    policy = controller(replace(CONFIG, slots=4))
    for _ in range(4):
        begin(policy, admit(policy, replace(SHORT, output_tokens=50, output_cap=50)))
    prediction = policy.predict(SHORT, INTERACTIVE, 0.0)
    # 49 tokens remain in each running answer, and a token takes 10 ms.
    assert prediction.release_s == pytest.approx(0.49, abs=0.02)
    long_answers = controller(replace(CONFIG, slots=4))
    for _ in range(4):
        begin(long_answers, admit(long_answers, replace(SHORT, output_tokens=900, output_cap=900)))
    refused = long_answers.decide(SHORT, INTERACTIVE, 0.0)
    assert isinstance(refused, Shed)


def test_who_waits_for_a_slot_is_promised_the_pace_of_a_full_engine() -> None:
    policy = controller(replace(CONFIG, slots=2))
    light = policy.paces.seconds_per_token
    for _ in range(2):
        begin(policy, admit(policy, replace(SHORT, output_tokens=50, output_cap=50)))
    before = policy.predict(SHORT, INTERACTIVE, 0.0).release_s
    policy.paces.full_step_rate.seed(25.0, 1.0)
    assert policy.paces.seconds_per_token == light
    assert policy.predict(SHORT, INTERACTIVE, 0.0).release_s == pytest.approx(4 * before)


def test_the_pace_of_a_full_engine_is_that_of_its_answers_alone() -> None:
    policy = controller(replace(CONFIG, slots=10))
    policy.paces.full_step_rate.seed(0.0, 0.0)
    running = [admit(policy, replace(SHORT, prefill_tokens=1)) for _ in range(9)]
    policy.observe_step([StepOutput(policy.bind(t, 1, 50), 1, cached=0) for t in running], 0.0, 0.0)
    for step in range(1, 40):  # each computes a prompt in 30 ms beside the answers' 10 ms
        new = policy.bind(admit(policy, replace(SHORT, prefill_tokens=300)), 300, 1)
        old = [StepOutput(ticket.sequences[0], 1) for ticket in running]
        ended = StepOutput(new, 1, cached=0, ended=True)
        policy.observe_step([*old, ended], 0.04 * step, 0.04 * step)
        policy.paces.prefill_rate.seed(10_000.0, 1.0)
    assert policy.paces.seconds_per_token_when_full == pytest.approx(0.01, rel=0.01)
    assert policy.paces.seconds_per_token > 0.02


def test_steps_told_together_teach_the_same_as_one_by_one() -> None:
    policies = controller(), controller()
    for policy in policies:
        tickets = [admit(policy, replace(SHORT, output_tokens=500, output_cap=500)) for _ in "abc"]
        for ticket in tickets:
            begin(policy, ticket)
        ends = [0.01 * step + 1e-5 * step**2 for step in range(1, 321)]
        for first in range(0, 320, 20):
            part, size = ends[first : first + 20], 20 if policy is policies[0] else 1
            for at in range(0, 20, size):
                outputs = [StepOutput(ticket.sequences[0], size) for ticket in tickets]
                policy.observe_steps(outputs, part[at : at + size])
        policy.check_integrity()
        assert policy.ledger.context == 3 * (100 + 321)
    together, alone = (policy.paces.law for policy in policies)
    assert together.context == alone.context > 3 * 100 / 3
    assert together.seconds(3, 0, 1_000) == alone.seconds(3, 0, 1_000) > 0


def test_kv_that_cannot_soon_be_free_makes_a_wait() -> None:
    policy = controller(replace(CONFIG, kv_tokens=400))
    begin(policy, admit(policy, replace(SHORT, prefill_tokens=300, output_tokens=90)))
    assert policy.predict(SHORT, INTERACTIVE, 0.0).release_s > 0


def test_retry_after_is_the_time_until_it_would_fit() -> None:
    policy = controller(replace(CONFIG, slots=2))
    for _ in range(2):
        begin(policy, admit(policy, replace(SHORT, output_tokens=500, output_cap=500)))
    shed = policy.decide(SHORT, INTERACTIVE, 0.0)
    assert isinstance(shed, Shed)
    # About 5 s until a slot is free, of which 0.75 s may be waited in the queue.
    assert shed.retry_after_s == pytest.approx(shed.predicted_s - 0.75, abs=0.01)
    assert 3.5 < shed.retry_after_s < 5.0


def test_who_comes_to_a_replica_that_drains_is_told_to_come_when_another_may_have_him() -> None:
    policy = controller()
    policy.draining = True
    shed = policy.decide(SHORT, INTERACTIVE, 0.0)
    assert isinstance(shed, Shed)
    assert (shed.reason, shed.retry_after_s) == ("draining", CONFIG.classes[INTERACTIVE].ttft_s)


def test_who_is_beyond_the_hard_bound_is_told_when_the_excess_is_computed() -> None:
    policy = controller(replace(CONFIG, max_queued_tokens=450))
    count, shed = fill(policy, replace(SHORT, prefill_tokens=9_000))  # 10,000 tokens/s
    assert (count, shed.reason) == (1, "queue_full")  # an engine that does nothing takes any
    assert shed.retry_after_s == pytest.approx((2 * 9_000 - 450) / 10_000)


def test_jitter_only_lengthens_retry_after() -> None:
    waits = []
    for share in (0.0, 0.5, 0.99):
        _, shed = fill(controller(jitter=lambda share=share: share), SHORT)  # type: ignore[misc]
        waits.append(shed.retry_after_s)
    assert waits[0] < waits[1] < waits[2] < 2 * waits[0] + 1e-9


def test_batch_waits_at_the_gate_rather_than_take_every_slot() -> None:
    policy = controller(replace(CONFIG, slots=8))
    batch, shed = fill(policy, SHORT, BATCH)
    assert shed.reason == "ttft_budget"
    assert batch > 8
    assert policy.ledger.in_engine == 7  # a slot is kept for who comes unexpected
    assert isinstance(policy.decide(SHORT, INTERACTIVE, 0.0), Admitted)


def test_interactive_does_not_wait_behind_the_batch_queue() -> None:
    policy = controller()
    for _ in range(30):
        admit(policy, replace(SHORT, prefill_tokens=2_000), BATCH)
    batch = policy.predict(SHORT, BATCH, 0.0)
    interactive = policy.predict(SHORT, INTERACTIVE, 0.0)
    assert batch.ahead_s == pytest.approx(6.0)
    # Only the batch request that is next, and one whose prompt the engine may have begun.
    assert interactive.ahead_s == pytest.approx((2_000 + 2_000) / 10_000)


@pytest.mark.parametrize(("until_s", "refused"), [(30.0, False), (60.0, True)])
def test_interactive_requests_are_refused_for_batch_only_where_it_would_be_aborted(
    until_s: float, refused: bool
) -> None:
    policy = controller()
    for _ in range(2):
        admit(policy, replace(SHORT, prefill_tokens=100), BATCH)
    policy.observe_step([], until_s - 0.06, until_s - 0.06)  # the engine lives
    # The second batch request needs 0.02 s of the 0.05 s that are left of its budget, or deadline.
    late = policy.decide(replace(SHORT, prefill_tokens=1_000), INTERACTIVE, until_s - 0.05)
    assert isinstance(late, Shed) == refused
    assert not isinstance(late, Shed) or late.reason == "promise_kept"


def test_nobody_has_to_be_surer_of_being_in_time_because_batch_waits() -> None:
    policy = controller()
    for _ in range(30):
        admit(policy, SHORT, BATCH)
    for _ in range(60):
        policy.close(admit(policy, SHORT), 0.0)
    assert policy.confidence[INTERACTIVE].share < 0.1 < 0.9 < policy.confidence[BATCH].share
    admit(policy, SHORT)
    for _ in range(60):
        policy.close(admit(policy, SHORT), 0.0)
    assert policy.confidence[INTERACTIVE].share > 0.9


def test_batch_is_let_in_for_less_than_its_budget() -> None:
    policy = controller()
    long_prompt = replace(SHORT, prefill_tokens=2_000)
    while isinstance(policy.decide(long_prompt, BATCH, 0.0), Admitted):
        pass
    most_s = 0.75 * (1.0 - CONFIG.margin) * 30.0
    assert 0.9 * most_s < policy.predict(SHORT, BATCH, 0.0).total_s <= most_s


def test_a_tenant_with_little_queued_goes_before_one_with_much() -> None:
    policy = controller()
    for _ in range(20):
        admit(policy, replace(SHORT, prefill_tokens=250), tenant="greedy")
    waits = [policy.predict(SHORT, INTERACTIVE, 0.0, t).ahead_s for t in ("greedy", "other")]
    assert waits[1] < waits[0]
    other = admit(policy, SHORT, tenant="other")
    assert other.tag < max(ticket.tag for ticket in policy.ledger.tickets)


def test_an_engine_that_stands_still_makes_predictions_longer() -> None:
    policy = controller()
    begin(policy, admit(policy, SHORT), now=1.0)
    lively = policy.predict(SHORT, INTERACTIVE, 1.0).total_s
    assert policy.predict(SHORT, INTERACTIVE, 9.0).total_s > lively + 7.0


def test_a_standstill_is_not_taken_for_the_engines_speed() -> None:
    policy = controller()
    policy.paces.prefill_rate.seed(10_000.0, 2.9)
    queued = [policy.bind(admit(policy, SHORT), 100, 50) for _ in range(9)]
    for step, sequence in enumerate(queued):
        at = 0.01 * step + (8.0 if step > 4 else 0.0)
        policy.observe_step([StepOutput(sequence, 1, cached=0)], at, at)
    assert policy.paces.prefill_rate.rate > 5_000
    assert policy.paces.seconds_per_token < 1.0


def test_an_engine_that_has_become_slow_is_seen_to_be() -> None:
    policy = controller(replace(CONFIG, slots=1024))
    tickets = [admit(policy, replace(SHORT, prefill_tokens=10)) for _ in range(60)]
    queued = [policy.bind(ticket, 100, 50) for ticket in tickets]
    for step, sequence in enumerate(queued):  # 100 tokens a step, each 60 times as long as usual
        policy.observe_step([StepOutput(sequence, 1, cached=0)], step, step)
    assert policy.paces.prefill_rate.rate == pytest.approx(100, rel=0.2)


def test_an_engine_that_had_nothing_to_do_has_not_stalled() -> None:
    policy = controller()
    ticket = admit(policy, SHORT)
    begin(policy, ticket)
    policy.close(ticket, 1.0)
    admit(policy, SHORT, now=3600.0)
    assert isinstance(policy.decide(SHORT, INTERACTIVE, 3600.001), Admitted)


def test_a_client_that_still_reads_its_answer_does_not_make_the_engine_seem_to_stall() -> None:
    policy = controller()
    slow = admit(policy, SHORT)
    begin(policy, slow)
    policy.end(slow.sequences[0], natural=True, now=1.0)
    assert policy.predict(SHORT, INTERACTIVE, 600.0).stalled_s == 0.0
    admit(policy, SHORT, now=600.0)
    assert policy.predict(SHORT, INTERACTIVE, 600.001).total_s < 1.0


def test_a_long_prompt_alone_is_no_stall_while_it_is_computed() -> None:
    policy = controller()
    ticket = admit(policy, SHORT)
    begin(policy, ticket)
    policy.close(ticket, 0.0)
    long = admit(policy, replace(SHORT, prefill_tokens=4_000), now=1.0)
    policy.entered(long, 1.0)
    policy.bind(long, 4_000, 50)
    # 10,000 tokens/s: its first token is due after 0.4 s, and nothing is heard of it before.
    assert policy.predict(SHORT, INTERACTIVE, 1.4).total_s < 0.45
    assert policy.predict(SHORT, INTERACTIVE, 3.4).total_s > 2.0


def test_a_promise_is_kept_however_many_are_queued_before_it() -> None:
    policy = controller(replace(CONFIG, slots=1024))
    for _ in range(100):
        admit(policy, replace(SHORT, prefill_tokens=70), tenant="many")
    admit(policy, replace(SHORT, prefill_tokens=10), tenant="many", now=0.0)
    # The last of them has 0.3 s to spare: others of 2,900 tokens may go before it, 3,100 may not.
    late = policy.decide(replace(SHORT, prefill_tokens=3_100), INTERACTIVE, 0.0, "other")
    assert isinstance(late, Shed)
    assert late.reason == "promise_kept"
    admit(policy, replace(SHORT, prefill_tokens=2_700), tenant="other")


def test_who_waits_for_slots_is_overtaken_in_slots_too() -> None:
    policy = controller(replace(CONFIG, slots=4))
    for _ in range(4):
        begin(policy, admit(policy, SHORT))
    admit(policy, SHORT, tenant="greedy")
    alone = policy.predict(SHORT, INTERACTIVE, 0.0, "greedy")
    for _ in range(3):  # too few prompt tokens to matter, and each takes a slot
        policy.close(admit(policy, replace(SHORT, prefill_tokens=1), tenant="other"), 0.0)
    assert policy.predict(SHORT, INTERACTIVE, 0.0, "greedy").release_s > 1.2 * alone.release_s


def test_sequences_at_once_are_bounded_where_more_would_slow_every_token() -> None:
    policy = controller(replace(CONFIG, tpot_s=0.05))
    for step in range(200):
        running = step % 40
        policy.paces.law.add(running, 0, 0.01 + 0.002 * running)  # 50 ms with 20 running
    count, shed = fill(policy, SHORT)
    assert (count, shed.reason) == (20, "tpot")


def test_who_has_not_its_part_of_the_pace_does_not_pay_for_who_came_before() -> None:
    policy = controller(replace(CONFIG, tpot_s=0.05))
    for step in range(200):
        policy.paces.law.add(step % 40, 0, 0.01 + 0.002 * (step % 40))  # 50 ms with 20 running
    for _ in range(20):
        begin(policy, admit(policy, SHORT, tenant="early"))
    late = 0
    while isinstance(decision := policy.decide(SHORT, INTERACTIVE, 0.0, "late"), Admitted):
        begin(policy, decision.ticket)
        late += 1
    early = policy.decide(SHORT, INTERACTIVE, 0.0, "early")
    assert late == 5  # a quarter beyond the 20 that keep the pace
    assert isinstance(early, Shed)


def test_a_replica_that_lets_nobody_in_tells_routers_until_when() -> None:
    policy = controller(replace(CONFIG, tpot_s=0.05))
    for step in range(200):
        running = step % 40
        policy.paces.law.add(running, 0, 0.01 + 0.002 * running)
    for _ in range(200):
        policy.paces.step_rate.add(1.0, 0.05)
    assert policy.held_s == 0.0
    tickets = [admit(policy, SHORT) for _ in range(20)]
    for ticket in tickets:
        begin(policy, ticket)
    assert policy.held_s > 0.05
    for ticket in tickets[:5]:
        policy.close(ticket, 0.0)
    assert policy.held_s == 0.0


def test_who_only_queues_does_not_slow_anybody_down() -> None:
    policy = controller(replace(CONFIG, slots=16, tpot_s=0.05))
    for step in range(200):
        running = step % 40
        policy.paces.law.add(running, 0, 0.01 + 0.002 * running)
    for _ in range(16):
        begin(policy, admit(policy, replace(SHORT, output_tokens=5, output_cap=5)))
    for _ in range(8):  # 24 in flight, of which the engine runs 16
        admit(policy, replace(SHORT, output_tokens=5, output_cap=5))


def test_who_slows_others_down_is_told_when_enough_of_them_end() -> None:
    policy = controller(replace(CONFIG, tpot_s=0.05))
    for step in range(200):
        running = step % 40
        policy.paces.law.add(running, 0, 0.01 + 0.002 * running)
    for _ in range(20):
        begin(policy, admit(policy, replace(SHORT, output_tokens=400, output_cap=400)))
    shed = policy.decide(SHORT, INTERACTIVE, 0.0)
    assert isinstance(shed, Shed)
    assert shed.reason == "tpot"
    assert shed.retry_after_s == pytest.approx(3.99, abs=0.2)  # 399 tokens of 10 ms


def test_who_would_break_a_promise_is_told_when_it_is_kept() -> None:
    policy = controller(replace(CONFIG, slots=1024))
    for _ in range(70):
        admit(policy, replace(SHORT, prefill_tokens=100), tenant="many")
    shed = policy.decide(replace(SHORT, prefill_tokens=3_100), INTERACTIVE, 0.0, "other")
    assert isinstance(shed, Shed)
    assert shed.reason == "promise_kept"
    assert shed.retry_after_s == pytest.approx(0.7)  # 7,000 tokens at 10,000/s


def test_a_typical_wait_is_that_of_who_asks_for_most() -> None:
    policy = controller()
    assert policy.predict_typical(INTERACTIVE, 0.0).ahead_s == 0
    for _ in range(20):
        admit(policy, replace(SHORT, prefill_tokens=250), tenant="greedy")
    admit(policy, SHORT, tenant="modest")
    typical = policy.predict_typical(INTERACTIVE, 0.0)
    assert typical.ahead_s == policy.predict(SHORT, INTERACTIVE, 0.0, "greedy").ahead_s > 0.4
    assert policy.predict(SHORT, INTERACTIVE, 0.0, "nobody").ahead_s < 0.4


def test_every_prompt_of_a_list_and_every_sample_is_charged() -> None:
    policy = controller()
    admit(policy, Cost(sequences=6, prefill_tokens=600, output_tokens=60, output_cap=10))
    assert policy.ledger.queued_prefill == 600
    assert policy.ledger.queued_sequences == 6


def test_estimates_are_corrected_by_what_the_engine_received() -> None:
    policy = controller()
    ticket = admit(policy, SHORT)
    policy.bind(ticket, prompt_tokens=1_700, output_cap=20)
    assert policy.ledger.queued_prefill == 1_700


def test_prompts_on_their_way_to_a_running_engine_do_not_pass_for_a_slow_one() -> None:
    policy = controller()
    running = policy.bind(admit(policy, SHORT), 100, 50)
    policy.observe_step([StepOutput(running, 1, cached=0)], 0.0, 0.0)
    policy.bind(admit(policy, SHORT), 100, 50)  # admitted, and not there yet
    for step in range(1, 20):
        policy.observe_step([StepOutput(running, 1)], step * 0.05, step * 0.05)
    assert policy.paces.prefill_rate.rate == pytest.approx(10_000)


def test_a_few_prompts_on_their_way_to_an_idle_engine_do_not_either() -> None:
    policy = controller()
    one, other = (policy.bind(admit(policy, SHORT), 100, 1) for _ in range(2))
    policy.observe_step([StepOutput(one, 1, cached=0, ended=True)], 0.0, 0.0)
    policy.observe_step([StepOutput(other, 1, cached=0, ended=True)], 0.5, 0.5)  # it came late
    assert policy.paces.prefill_rate.rate == pytest.approx(10_000)


def test_measured_drain_rate_follows_the_engine() -> None:
    policy = controller(replace(CONFIG, slots=1024))
    policy.paces.prefill_rate.seed(10_000.0, 0.1)
    tickets = [admit(policy, replace(SHORT, prefill_tokens=10)) for _ in range(200)]
    sequences = [policy.bind(t, 100, 50) for t in tickets]
    for step, sequence in enumerate(sequences):  # one prompt of 100 tokens every 50 ms
        policy.observe_step([StepOutput(sequence, 1, cached=0)], step * 0.05, step * 0.05)
    assert policy.paces.prefill_rate.rate == pytest.approx(2_000, rel=0.1)


def test_cached_prompt_tokens_are_not_work_done() -> None:
    policy = controller(replace(CONFIG, slots=1024))
    policy.paces.prefill_rate.seed(10_000.0, 0.1)
    small = replace(SHORT, prefill_tokens=10)
    tickets = [admit(policy, small) for _ in range(200)]
    sequences = [policy.bind(ticket, 100, 50) for ticket in tickets]
    for step, sequence in enumerate(sequences):
        policy.observe_step([StepOutput(sequence, 1, cached=96)], step * 0.05, step * 0.05)
    assert policy.paces.prefill_rate.rate == pytest.approx(80, rel=0.2)


def test_late_first_tokens_raise_later_predictions_and_are_forgotten() -> None:
    policy = controller()
    for _ in range(100):
        ticket = admit(policy, SHORT)
        sequence = policy.bind(ticket, 100, 50)
        policy.observe_step([StepOutput(sequence, 1, cached=0, ended=True)], 0.5, 0.5)
        policy.close(ticket, 0.0)
    learned = policy.waits.lateness.of(0.01, 0.5)
    assert learned == pytest.approx(0.5, rel=0.2)
    assert policy.waits.lateness.of(0.01, 60.5) < learned / 4


def test_what_is_cached_is_no_work_but_is_held_and_charged() -> None:
    policy = controller()
    shape = RequestShape(prompt_bytes=0, prompt_ids=1_000, max_tokens=10, cached_tokens=960)
    cost = policy.costs.price(shape)
    assert (cost.prefill_tokens, cost.tokens - cost.output_tokens) == (40, 1_000)
    ticket = admit(policy, cost)
    policy.bind(ticket, prompt_tokens=1_000, output_cap=10)
    assert policy.ledger.queued_prefill == 40
    assert policy.ledger.kv_tokens >= 1_000
    everything = replace(shape, cached_tokens=5_000)
    assert policy.costs.price(everything).prefill_tokens == 1  # the last token is always computed


def test_repr_tells_the_state() -> None:
    policy = controller()
    admit(policy, SHORT)
    assert "queued=1 (100 tokens)" in repr(policy)


def test_in_a_flood_who_comes_again_makes_room_for_who_is_still_in_time() -> None:
    policy = controller(replace(CONFIG, slots=1024))
    while policy.ledger.queued_prefill < 5_500:  # of 7,500 that the first attempts may queue
        admit(policy, SHORT)
    assert isinstance(policy.decide(SHORT, INTERACTIVE, 0.0, retries=1), Shed)
    admit(policy, SHORT)


def test_who_comes_again_is_served_like_anybody_where_nobody_waits() -> None:
    policy = controller(replace(CONFIG, slots=1024))
    policy.confidence[INTERACTIVE].share = 0.0
    admit(policy, replace(SHORT, prefill_tokens=5_000))
    again = policy.decide(replace(SHORT, prefill_tokens=2_000), INTERACTIVE, 0.0, retries=2)
    assert isinstance(again, Admitted)


def test_who_leaves_before_the_first_token_pays_for_what_was_computed() -> None:
    policy = controller()
    tickets = [admit(policy, replace(SHORT, prefill_tokens=250)) for _ in range(24)]  # 0.6 s
    for ticket in tickets:
        policy.bind(ticket, ticket.sequences[0].prompt, 50)
    for ticket in tickets:
        policy.close(ticket, 0.3)
    spent = [ticket.spent_tokens for ticket in tickets]
    assert spent[:8] == [250] * 8
    assert spent[-8:] == [0] * 8  # they had not their turns yet
    assert sum(spent) == pytest.approx(3_000, abs=250)


def test_what_never_reached_the_engine_is_given_back() -> None:
    policy = controller()
    ticket = admit(policy, replace(SHORT, prefill_tokens=8_000))
    policy.close(ticket, 0.7)
    assert ticket.spent_tokens == 0
