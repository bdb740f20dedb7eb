"""Very long prompts among ordinary ones: nobody pays for them, and none is begun in vain."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import ceil, inf
from statistics import median

import pytest
from admissions import CLASSES
from hypothesis import example, given
from hypothesis import strategies as st
from one_replica import DEMO, Ask, Fate, OneReplica, capacity, p, poisson

from forebay.engine_model import StepTime, tokens_at
from forebay.policies.forecast import Way
from forebay.policies.forecast.long_prompts import LongPrompts
from forebay.policies.forecast.own_time import Stream
from forebay.policies.request import BATCH, INTERACTIVE, ClassPolicy, Cost, Ticket

# A prompt of 9,000 tokens takes 1.5 s alone: attention makes its last tokens cost four times as
# much as its first.
SLOW = replace(
    DEMO,
    max_model_len=16_384,
    kv_blocks=8_000,
    step_time=StepTime(
        base=4e-3, prefill_token=70e-6, decode_sequence=0.15e-3, prefill_pair=2.2e-8
    ),
)
SHORT, GIANT = (182, 48), (9_000, 48)


def test_ordinary_prompts_are_served_beside_some_fifty_times_as_long() -> None:
    replica = OneReplica(profile=SLOW)
    start, rate = replica.now, 0.6 * capacity(*SHORT, SLOW)
    ordinary = poisson(rate, 40, *SHORT, start=start, seed=1)
    giants = [Ask(start + 2 + 4 * number, *GIANT) for number in range(9)]
    fates = replica.run([*ordinary, *giants])
    others = [fate for fate in fates if fate.ask.prompt == SHORT[0]]
    assert sum(fate.good for fate in others) >= 0.99 * len(others)
    assert p(others, 99) <= 0.25
    # None could have its first token by its deadline, and the warm-up has shown it.
    assert all(fate.shed for fate in fates if fate.ask.prompt == GIANT[0])


def test_on_a_quiet_replica_a_very_long_prompt_is_served() -> None:
    replica = OneReplica(profile=SLOW)
    fates = replica.run([Ask(replica.now + 10 * number, *GIANT) for number in range(5)])
    assert all(fate.first_at is not None for fate in fates)


@pytest.mark.parametrize("tokens", [4_500, 6_000, 9_000])
def test_on_a_quiet_replica_it_comes_when_it_was_predicted(tokens: int) -> None:
    replica = OneReplica(profile=SLOW)
    cost = replica.price(Ask(replica.now, tokens, 48))
    predicted = replica.admission.predict(cost, INTERACTIVE, replica.now)
    (fate,) = replica.run([Ask(replica.now, tokens, 48)])
    assert fate.first_at is not None
    assert predicted.raw_s == pytest.approx(fate.first_at - fate.ask.at, rel=0.15)


def test_several_very_long_prompts_of_a_request_are_not_predicted_as_one() -> None:
    replica = OneReplica(profile=SLOW)
    one = replica.price(Ask(replica.now, 5_000, 48))
    eight = replace(one, sequences=8, prefill_tokens=8 * 5_000, output_tokens=8 * 48)
    waits = replica.admission.waits
    together, alone = waits.own.own_s(eight, replica.now), waits.own.own_s(one, replica.now)
    assert 6.0 * alone < together < 8.0 * alone
    sixteen = replace(eight, sequences=16, prefill_tokens=16 * 5_000)
    assert waits.own.own_s(sixteen, replica.now) == pytest.approx(2.0 * together)


@given(
    law=st.tuples(
        st.floats(1e-6, 0.1), *(st.sampled_from([0.0, 1e-12, 1e-5, 1e-2]) for _ in range(3))
    ),
    alone_times=st.floats(0.1, 20.0),
    others=st.tuples(*(st.sampled_from([0.0, 1e-6, 1.0, 50.0, 1e5]) for _ in range(3))),
    left_s=st.floats(0.0, 1e4),
)
@example(law=(0.03, 0.0, 0.0, 0.0), alone_times=1.0, others=(10.0, 1_820.0, 480.0), left_s=60.0)
def test_how_one_gives_way_is_told_whatever_was_learned(
    law: tuple[float, ...], alone_times: float, others: tuple[float, ...], left_s: float
) -> None:
    """Also where all steps seen computed as many prompt tokens, and these seem to take no time."""
    replica = warm()
    learned, ledger = replica.admission.paces.law, replica.admission.ledger
    learned.base_s, learned.per_sequence_s, learned.per_token_s, learned.per_context_s = law
    cost = replica.price(Ask(replica.now, *GIANT))
    parts = ceil(cost.prefill_tokens / ledger.part)
    alone_s = alone_times * parts * learned.seconds(0, ledger.part)
    ways = replica.admission.waits.own.priority
    way = ways.way(cost, alone_s, Stream(*others), left_s)
    assert 1 <= in_the_middle(way, GIANT[0]) <= ledger.part
    assert way.step_tokens <= replica.profile.max_num_batched_tokens
    assert parts * learned.base_s <= way.own_s < inf
    assert not ways.has_to(cost, alone_s, Stream(*others), budget_s=3.0 * alone_s)
    assert ways.has_to(cost, alone_s, Stream(0.0, 0.0, 0.0), budget_s=alone_s)


@cache
def warm() -> OneReplica:
    return OneReplica(profile=SLOW)


def test_what_one_takes_is_not_the_pace_of_others() -> None:
    replica = OneReplica(profile=SLOW)
    paces = replica.admission.paces
    rate, step_s = paces.prefill_rate.rate, paces.law.seconds(0, 2_048)
    beside = poisson(5.0, 12, *SHORT, start=replica.now + 3, seed=1)
    giants = [Ask(replica.now + 4 * number, 6_000, 48) for number in range(4)]
    fates = replica.run([*giants, *beside])
    assert all(fate.good or fate.ask.prompt == 6_000 for fate in fates)
    assert paces.prefill_rate.rate == pytest.approx(rate, rel=0.1)
    assert paces.law.seconds(0, 2_048) == pytest.approx(step_s, rel=0.1)


@pytest.mark.parametrize("later_s", [0.5, 0.85, 1.2])
def test_one_that_comes_later_does_not_make_the_first_miss_its_deadline(later_s: float) -> None:
    replica = OneReplica(profile=SLOW)
    first, second = Ask(replica.now, *GIANT), Ask(replica.now + later_s, 4_500, 48)
    fates = replica.run([first, second])
    assert fates[0].first_at is not None
    assert fates[0].first_at - first.at < 1.9
    assert fates[1].shed or fates[1].first_at is not None


def test_what_busy_traffic_did_to_one_refuses_none_on_a_quiet_replica() -> None:
    replica = OneReplica(profile=SLOW)
    replica.admission.waits.own.long.given_up(
        0.7, 1.4, replica.now
    )  # three times as long, it is told
    few = [Ask(replica.now + 0.3 + number, *SHORT) for number in range(12)]
    asked = Ask(replica.now + 8.9, 6_000, 48)
    fates = replica.run([*few, asked])
    (fate,) = [fate for fate in fates if fate.ask is asked]
    assert fate.first_at is not None


def test_after_the_others_have_gone_it_is_let_in_again() -> None:
    replica = OneReplica(profile=SLOW)
    start, rate = replica.now, 0.6 * capacity(*SHORT, SLOW)
    busy = poisson(rate, 20, *SHORT, start=start, seed=1)
    giants = [Ask(start + 2 + 4 * number, *GIANT) for number in range(4)]
    later = Ask(start + 60, *GIANT)
    *_, last = replica.run([*busy, *giants, later])
    assert last.ask is later
    assert last.first_at is not None


def test_only_what_takes_many_parts_is_very_long() -> None:
    long = LongPrompts(part=256)
    assert long.parts(Cost(1, 9_000, 1, 1)) == 36
    assert long.parts(Cost(100, 9_000, 1, 1)) == 0  # of 90 tokens each
    assert long.parts(Cost(1, 3_000, 1, 1)) == 0


def test_what_was_given_up_is_told_as_that_long_and_forgotten_in_time() -> None:
    long = LongPrompts(part=256)
    long.given_up(0.8, 0.7, now=10.0)  # its client left before it could have come
    assert long.times(10.0) == 1.0
    long.given_up(0.8, 2.0, now=10.0)
    long.given_up(0.8, 2.0, now=10.0)  # another that was let in beside it tells the same
    assert 0.8 * long.times(10.0) == pytest.approx(3.0)
    assert long.times(40.0) == pytest.approx(2.375)


def test_what_one_took_on_an_engine_of_its_own_is_not_forgotten() -> None:
    long = LongPrompts(part=256)
    long.measured(Cost(1, 8_000, 1, 1), 0.5, 1.5)
    long.given_up(0.5, 2.0, now=20.0)
    long.came_true(0.5, 0.5, now=1e6)
    long.forget()
    assert long.alone(Cost(1, 8_000, 1, 1)) == pytest.approx(3.0)
    assert long.times(1e6) == 1.0


def test_half_as_long_a_prompt_is_half_as_much_slower_than_usual_ones() -> None:
    long = LongPrompts(part=256)
    assert long.alone(Cost(1, 8_000, 1, 1)) == 1.0
    long.measured(Cost(1, 8_000, 1, 1), 0.5, 1.5)
    assert long.alone(Cost(1, 4_000, 1, 1)) == pytest.approx(2.0)
    # Of 8,000 tokens whose first half is cached, each is compared with more than half of them.
    assert long.alone(Cost(1, 4_000, 1, 1, cached_tokens=4_000)) == pytest.approx(4.0)
    long.measured(Cost(1, 8_000, 1, 1), 0.5, 0.3)
    assert long.alone(Cost(1, 8_000, 1, 1)) == 1.0


def test_what_waits_at_the_gate_says_nothing_of_how_long_prompts_take() -> None:
    replica = OneReplica(profile=SLOW)
    before = replica.admission.waits.own.long.times(replica.now)
    replica.run([Ask(replica.now, *GIANT, class_name=BATCH) for _ in range(6)])
    assert replica.admission.waits.own.long.times(replica.now) == before


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.floats(0, 10))))
def test_a_prompt_is_never_told_as_shorter_than_reckoned(
    seen: list[tuple[bool, float, float]],
) -> None:
    long = LongPrompts(part=256)
    for number, (true, predicted_s, waited_s) in enumerate(seen):
        (long.came_true if true else long.given_up)(predicted_s, waited_s, float(number))
        assert 1.0 <= long.times(float(number)) <= 8.0


# --- those that give way ------------------------------------------------------------------

PATIENT = {
    INTERACTIVE: ClassPolicy(ttft_s=1.0, deadline_s=60.0, weight=8.0),
    BATCH: CLASSES[BATCH],
}


@cache
def beside_giants(every_s: float) -> tuple[list[Fate], list[Fate], OneReplica]:
    """Ordinary requests and very long ones, one every so often, that may take their time."""
    replica = OneReplica(profile=SLOW, classes=PATIENT)
    start, rate, seconds = replica.now, 0.6 * capacity(*SHORT, SLOW), 60.0
    ordinary = poisson(rate, seconds, *SHORT, start=start, seed=1)
    count = int((seconds - 5) // every_s)
    giants = [Ask(start + 5 + every_s * number, *GIANT) for number in range(count)]
    fates = replica.run([*ordinary, *giants])
    replica.admission.check_integrity()
    others = [fate for fate in fates if fate.ask.prompt == SHORT[0]]
    return others, [fate for fate in fates if fate.ask.prompt == GIANT[0]], replica


@pytest.mark.parametrize("every_s", [10.0, 4.0])  # the latter is more than the engine can do
def test_others_hardly_feel_one_that_may_take_its_time(every_s: float) -> None:
    without, _, _ = beside_giants(1e9)
    others, giants, replica = beside_giants(every_s)
    assert p(others, 99) <= 1.5 * p(without, 99)
    assert all(fate.good for fate in others)
    assert all(fate.shed or fate.first_at for fate in giants)  # none was computed in vain
    served = [fate for fate in giants if fate.first_at is not None]
    assert len(served) >= 0.9 * len(giants)
    # What they were told came true, and others were not told to wait for them.
    assert 0.6 <= median([one.ttft_s / one.predicted_s for one in served]) <= 1.6  # type: ignore[operator]
    error = [abs(one.predicted_s - one.ttft_s) / one.ttft_s for one in others]  # type: ignore[operator]
    assert median(error) <= 0.25
    assert replica.admission.paces.prefill_rate.rate > 10_000


def test_its_answer_is_as_fast_as_others_while_the_next_prompt_is_computed() -> None:
    others, giants, _ = beside_giants(4.0)
    assert any(fate.ttft_s > 8.0 for fate in giants if fate.ttft_s)  # they queue
    assert max(map(answer_s, giants)) <= 2.0 * max(map(answer_s, others))


def answer_s(fate: Fate) -> float:
    return fate.ended_at - fate.first_at if fate.ended_at and fate.first_at else 0.0


def test_where_nobody_else_comes_it_is_computed_as_fast_as_the_engine_can() -> None:
    replica = OneReplica(profile=SLOW)
    fates = replica.run([Ask(replica.now + 10 * number, 4_500, 48) for number in range(3)])
    for fate in fates:
        assert fate.ticket is not None
        assert fate.ticket.steps_aside
        assert fate.ticket.step_tokens == 256
        assert fate.ttft_s == pytest.approx(fates[0].ttft_s)
        assert fate.good


def test_of_one_that_takes_less_than_its_budget_the_others_wait_for_its_parts() -> None:
    replica = OneReplica(profile=replace(SLOW, step_time=DEMO.step_time))
    (fate,) = replica.run([Ask(replica.now, 4_500, 48)])
    assert fate.ticket is not None
    assert not fate.ticket.gives_way


def in_the_middle(way: Way, prompt: int) -> int:
    """Tokens of a step half way through such a prompt, which are those of the mean step."""
    return tokens_at(prompt // 2, way.step_tokens, way.half_at)


def tokens_a_step(load: float, deadline_s: float) -> int:
    """Of a very long prompt with this deadline, on an engine at this load (x capacity)."""
    classes = {**PATIENT, INTERACTIVE: ClassPolicy(1.0, deadline_s, weight=8.0)}
    replica = OneReplica(profile=SLOW, classes=classes)
    busy = poisson(load * capacity(*SHORT, SLOW), 10, *SHORT, start=replica.now, seed=1)
    replica.run(busy, until=replica.now + 10)
    cost = replica.price(Ask(replica.now, *GIANT))
    return in_the_middle(replica.admission.waits.own.way(cost, INTERACTIVE, replica.now), GIANT[0])


def test_steps_beside_one_are_as_long_at_its_end_as_at_its_beginning() -> None:
    replica = OneReplica(profile=SLOW, classes=PATIENT)
    busy = poisson(0.3 * capacity(*SHORT, SLOW), 10, *SHORT, start=replica.now, seed=1)
    replica.run(busy, until=replica.now + 10)
    cost = replica.price(Ask(replica.now, *GIANT))
    way = replica.admission.waits.own.way(cost, INTERACTIVE, replica.now)
    places = range(0, GIANT[0], 500)
    steps = [tokens_at(place, way.step_tokens, way.half_at) for place in places]
    added = [
        SLOW.step_time.seconds(tokens, tokens * place, 0, 0) - SLOW.step_time.base
        for tokens, place in zip(steps, places, strict=True)
    ]
    assert max(added) < 1.25 * min(added), (steps, added)
    assert steps[-1] < 0.5 * steps[0]


def test_one_that_was_partly_cached_says_nothing_of_others_once_it_is_gone() -> None:
    replicas = [OneReplica(profile=SLOW) for _ in range(2)]
    gone = Ticket(
        INTERACTIVE, 0, Cost(1, 4_000, 48, 48, cached_tokens=5_000), 0.0, 1.0, 1.0, gives_way=True
    )
    gone.step_tokens, gone.half_at = 40, 3_000
    replicas[1].admission.pacing.steps_aside(gone)
    told = []
    for replica in replicas:
        others = poisson(0.5 * capacity(*SHORT, SLOW), 5, *SHORT, start=replica.now, seed=1)
        told.append([fate.predicted_s for fate in replica.run(others)])
    assert told[0] == told[1]


def test_where_it_has_to_hurry_more_of_it_is_computed_in_a_step() -> None:
    hurried, patient = tokens_a_step(0.3, 4.0), tokens_a_step(0.3, 60.0)
    assert 16 <= patient < hurried <= 256


def test_it_hurries_no_more_than_leaves_slots_to_others() -> None:
    roomy, busy = tokens_a_step(0.3, 4.0), tokens_a_step(0.6, 4.0)
    assert busy < roomy
    assert busy == tokens_a_step(0.6, 8.0)  # more haste has nothing more of each step


def test_neither_batch_nor_very_long_prompts_starve_beside_each_other() -> None:
    replica = OneReplica(
        profile=SLOW, classes=PATIENT, check=lambda admission: admission.check_integrity()
    )
    start = replica.now
    ordinary = poisson(0.3 * capacity(*SHORT, SLOW), 60, *SHORT, start=start, seed=1)
    giants = [Ask(start + 2 + 3 * number, *GIANT) for number in range(18)]
    batch = [Ask(start + number, 1_000, 48, class_name=BATCH) for number in range(40)]
    fates = replica.run([*ordinary, *giants, *batch])
    replica.admission.check_integrity()
    for count, prompt in ((len(giants), GIANT[0]), (len(batch), 1_000)):
        served = sum(fate.first_at is not None for fate in fates if fate.ask.prompt == prompt)
        assert served >= 0.7 * count, (prompt, served)


def test_one_that_leaves_pays_for_what_was_computed_and_lets_the_next_go() -> None:
    replica = OneReplica(profile=SLOW, classes=PATIENT)
    replica.run([Ask(replica.now, *GIANT), Ask(replica.now, *GIANT)], until=replica.now + 0.8)
    first, second = replica.fates
    held = replica.admission.turns.held_aside
    assert second.ticket is not None
    assert second.ticket in held
    replica.leave(first)
    assert second.ticket not in held
    assert first.ticket is not None
    assert 2_000 < first.ticket.spent_tokens < 7_000  # of 9,000, in half of its time
    replica.run([])
    assert second.first_at is not None
    replica.admission.check_integrity()


def test_what_the_engine_stood_still_for_is_not_held_against_the_next() -> None:
    replica = OneReplica(profile=SLOW)
    start = replica.now
    replica.stalls = ((start + 0.5, start + 4.0),)
    few = [Ask(start + 0.1 + 0.3 * number, *SHORT) for number in range(5)]
    fates = replica.run([Ask(start, *GIANT), *few], until=start + 6.0)
    (giant,) = (fate for fate in fates if fate.ask.prompt == GIANT[0])
    assert giant.ticket is not None
    assert giant.first_at is None  # it was given up at its deadline of 2 s
    assert replica.admission.waits.own.long.times(replica.now) <= 1.5


def test_who_waited_at_the_gate_was_not_computed_meanwhile() -> None:
    replica = OneReplica(profile=SLOW, classes=PATIENT)
    asks = [Ask(replica.now, *GIANT), Ask(replica.now + 0.01, *GIANT, patience_s=2.2)]
    fates = replica.run(asks)
    assert fates[1].first_at is None  # after 0.7 s of its own
    assert replica.admission.waits.own.long.times(replica.now) <= 1.2


def test_a_guess_is_forgotten_soon_unless_the_next_is_given_up_too() -> None:
    long = LongPrompts(part=256)
    long.given_up(1.0, 2.0, now=10.0)
    assert long.times(10.0) == pytest.approx(3.0)
    assert long.times(40.0) == pytest.approx(2.0)
    long.given_up(1.0, 2.0, now=40.0)  # it began after the first was given up
    assert long.times(100.0) == pytest.approx(2.0)
    long.given_up(1.0, 2.0, now=100.0)
    assert long.times(220.0) == pytest.approx(2.0)
    long.came_true(1.0, 1.0, now=220.0)
    assert long.times(220.0) == pytest.approx(2.0**0.5)
    assert long.times(820.0) == pytest.approx(1.0 + (2.0**0.5 - 1.0) / 2.0)
