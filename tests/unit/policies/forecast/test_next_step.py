"""Where in its steps the engine is, and what that says of a first token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.forecast import Answers, NextStep, Paces
from forebay.policies.forecast.expected_ttft import Factor
from forebay.policies.forecast.next_step import Queued
from forebay.policies.request import part_tokens

SLOTS, STEP_TOKENS = 64, 2048
PART = part_tokens(STEP_TOKENS)
BASE_S, PER_SEQUENCE_S, PER_TOKEN_S = 0.002, 0.0002, 0.00005


def engine_of(*, known: bool = True, per_context_s: float = 0.0) -> NextStep:
    paces = Paces(SLOTS, STEP_TOKENS)
    law = paces.law
    if known:
        law.base_s, law.per_sequence_s, law.per_token_s = BASE_S, PER_SEQUENCE_S, PER_TOKEN_S
        law.per_context_s = per_context_s
    return NextStep(SLOTS, STEP_TOKENS, paces)


def step_s(running: int, tokens: float) -> float:
    return BASE_S + running * PER_SEQUENCE_S + tokens * PER_TOKEN_S


def stepped(
    engine: NextStep,
    at: float,
    drained: int,
    running: int,
    queued: int,
    n: int,
    *,
    cut: bool = False,
) -> None:
    engine.stepped(at, at, drained, Answers(running, 0), Queued(n, queued, n, queued, cut))


def test_on_an_idle_engine_it_is_the_way_in_and_the_own_step() -> None:
    engine = engine_of()
    for _ in range(200):
        engine.entered(0.004)
    expected = 0.004 + BASE_S + 100 * PER_TOKEN_S
    assert engine.first_token_s(0, 0, 100, 5.0) == pytest.approx(expected)


def test_of_a_step_that_runs_only_the_rest_is_waited_for() -> None:
    engine = engine_of()
    stepped(engine, 10.0, 0, 50, 200, 1)
    own_s = step_s(51, 100)
    at_once = engine.first_token_s(51, 200, 100, 10.0)
    half_way = engine.first_token_s(51, 200, 100, 10.0 + step_s(50, 200) / 2)
    long_after = engine.first_token_s(51, 200, 100, 11.0)
    assert at_once == pytest.approx(step_s(50, 200) + own_s)
    assert half_way == pytest.approx(step_s(50, 200) / 2 + own_s)
    assert long_after == pytest.approx(own_s)


def test_the_way_in_passes_while_the_step_runs_unless_it_ends_before() -> None:
    engine = engine_of()
    for _ in range(200):
        engine.entered(0.004)
    stepped(engine, 10.0, 0, 50, 200, 1)
    own_s, runs_s = step_s(51, 100), step_s(50, 200)
    at_once = engine.first_token_s(51, 200, 100, 10.0)
    too_late = engine.first_token_s(51, 200, 100, 10.0 + runs_s - 0.001)
    assert at_once == pytest.approx(runs_s + own_s)
    assert too_late == pytest.approx(0.001 + step_s(51, 0) + own_s)


def test_what_the_answers_attend_to_lengthens_the_step_that_runs_and_the_own() -> None:
    engine, attending = engine_of(), engine_of(per_context_s=1e-8)
    for one in (engine, attending):
        one.stepped(10.0, 10.0, 0, Answers(50, 300_000), Queued(1, 200, 1, 200))
    without, beside = (one.first_token_s(60, 200, 100, 10.0) for one in (engine, attending))
    assert without is not None
    # Of 50 that run now, and of 60 with those queued, 6,000 tokens each.
    assert beside == pytest.approx(without + 1e-8 * 6_000 * (50 + 60))


def test_prompts_that_came_since_share_the_own_step() -> None:
    engine = engine_of()
    stepped(engine, 10.0, 0, 1, 0, 0)
    alone = engine.first_token_s(1, 0, 100, 11.0)
    with_others = engine.first_token_s(3, 400, 100, 11.0)
    assert alone is not None
    assert with_others == pytest.approx(alone + 2 * PER_SEQUENCE_S + 400 * PER_TOKEN_S)


def test_a_long_prompt_takes_a_step_for_each_of_its_parts() -> None:
    engine = engine_of()
    twelve_parts = engine.first_token_s(0, 0, 12 * PART, 0.0, in_parts=True)
    assert twelve_parts == pytest.approx(12 * BASE_S + 12 * PART * PER_TOKEN_S)


def test_a_prompt_that_fits_in_a_step_takes_one_unless_others_are_cut() -> None:
    engine = engine_of()
    alone = engine.first_token_s(0, 0, 4 * PART, 0.0)
    assert alone == pytest.approx(BASE_S + 4 * PART * PER_TOKEN_S)
    stepped(engine, 1.0, 0, 1, 0, 0, cut=True)
    beside = engine.first_token_s(1, 0, 4 * PART, 2.0)
    assert beside == pytest.approx(4 * step_s(1, PART))


def test_uncut_prompts_are_computed_one_after_another() -> None:
    engine = engine_of()
    stepped(engine, 1.0, 0, 1, 12 * PART, 2)  # of 6 parts each; a step has room for 8
    assert engine.computed(12 * PART, 9.0) == STEP_TOKENS - 1
    stepped(engine, 2.0, 6 * PART, 1, 6 * PART, 1)
    assert engine.computed(6 * PART, 2.0) == 2 * PART - 1
    assert engine.begun(6 * PART, 2.0) == 6 * PART


def test_what_is_computed_of_prompts_that_leave_was_computed_all_the_same() -> None:
    engine = engine_of()
    queued = Queued(2, 12 * PART, 2, 12 * PART)
    engine.stepped(1.0, 1.0, 0, Answers(1, 0), queued)
    engine.left(6 * PART)
    rest = Queued(0, 0, 0, 0)
    assert engine.stepped(2.0, 2.0, 6 * PART, Answers(1, 0), rest) == STEP_TOKENS - 1
    assert engine.stepped(3.0, 3.0, 0, Answers(1, 0), rest) == 0


def test_nothing_is_said_before_the_steps_are_known() -> None:
    engine = engine_of(known=False)
    engine.woke(0.0, Queued(1, 1000, 1, 1000))
    assert engine.first_token_s(0, 0, 100, 0.0) is None
    assert engine.computed(1000, 5.0) == 0.0


def test_a_prompt_alone_is_computed_as_time_passes_though_no_step_is_seen() -> None:
    engine = engine_of()
    engine.woke(1.0, Queued(1, 6 * PART, 1, 6 * PART, cut=True))
    part_s = step_s(0, PART)
    assert engine.computed(6 * PART, 1.0) == 0.0
    assert engine.computed(6 * PART, 1.0 + 2.5 * part_s) == pytest.approx(2.5 * PART)
    assert engine.computed(6 * PART, 9.0) == 6 * PART


def test_beside_an_answer_a_prompt_is_computed_a_part_a_step() -> None:
    engine = engine_of()
    stepped(engine, 1.0, 0, 1, 4 * PART, 1, cut=True)
    assert engine.computed(4 * PART, 9.0) == PART  # an end of that step would have been seen
    stepped(engine, 1.5, 0, 1, 4 * PART, 1, cut=True)
    stepped(engine, 2.0, 0, 1, 4 * PART, 1, cut=True)
    assert engine.computed(4 * PART, 2.0) == 2 * PART


def test_a_further_slice_of_a_step_computes_nothing_more() -> None:
    engine = engine_of()
    stepped(engine, 1.0, 0, 1, 4 * PART, 1, cut=True)
    stepped(engine, 2.0, 0, 1, 4 * PART, 1, cut=True)
    stepped(engine, 2.0, 0, 1, 4 * PART, 1, cut=True)
    assert engine.computed(4 * PART, 2.0) == PART


def test_what_waits_for_a_slot_is_not_computed() -> None:
    engine = engine_of()
    stepped(engine, 1.0, 0, SLOTS, 4 * PART, 4)
    assert engine.computed(4 * PART, 9.0) == 0.0


@given(
    running=st.integers(0, 64),
    queued=st.integers(0, 10_000),
    prompts=st.integers(0, 64),
    own=st.integers(1, 10_000),
    elapsed=st.floats(0.0, 100.0),
)
def test_it_is_at_least_the_own_step_and_falls_while_a_step_runs(
    running: int, queued: int, prompts: int, own: int, elapsed: float
) -> None:
    engine = engine_of()
    stepped(engine, 0.0, 0, running, queued, prompts)
    now = engine.first_token_s(running + prompts, queued, own, elapsed)
    later = engine.first_token_s(running + prompts, queued, own, elapsed + 0.01)
    assert now is not None
    assert later is not None
    assert later <= now + 1e-9
    assert later >= BASE_S + own * PER_TOKEN_S - 1e-9


steps = st.lists(
    st.tuples(
        st.floats(0.001, 2.0),
        st.integers(0, 64),
        st.lists(st.integers(1, 4000), max_size=20),
    ),
    max_size=30,
)


@given(steps)
def test_never_more_is_computed_than_is_queued(
    steps: list[tuple[float, int, list[int]]],
) -> None:
    engine, now, queued = engine_of(), 0.0, [500]
    engine.woke(now, Queued(1, 500, 1, 500))
    for elapsed, running, came in steps:
        now += elapsed
        assert 0.0 <= engine.computed(sum(queued), now) <= sum(queued)
        queued += came
        drained = queued.pop(0) if queued else 0
        stepped(engine, now, drained, running, sum(queued), len(queued))
        assert 0.0 <= engine.computed(sum(queued), now) <= sum(queued)


def test_what_comes_late_by_a_multiple_is_told_so() -> None:
    factor = Factor()
    for step in range(400):
        factor.add(0.01 * (1 + step % 7), 0.015 * (1 + step % 7))
    assert factor.of(0.2) == pytest.approx(0.3)


def test_one_that_is_very_late_moves_little() -> None:
    factor = Factor()
    for _ in range(200):
        factor.add(0.02, 0.02)
    factor.add(0.02, 2.0)
    assert factor.of(0.02) < 0.0212


def test_most_are_told_what_most_see_where_one_in_eight_is_very_late() -> None:
    factor = Factor()
    for step in range(1000):
        factor.add(0.02, 0.02 if step % 8 else 0.2)
    assert factor.of(0.02) == pytest.approx(0.02, rel=0.05)


def test_it_follows_an_engine_that_takes_twice_as_long() -> None:
    factor = Factor()
    for step in range(1000):
        factor.add(0.02, 0.02 if step < 400 else 0.04)
    assert factor.of(0.02) == pytest.approx(0.04, rel=0.05)


def test_few_first_tokens_and_odd_ones_teach_nothing() -> None:
    factor = Factor()
    for _ in range(10):
        factor.add(0.1, 0.5)
    for _ in range(100):
        factor.add(0.0, 0.5)
    assert factor.of(0.1) == 0.1


def test_a_long_prompt_that_goes_first_takes_full_steps_and_batch_keeps_its_place() -> None:
    engine, now, computed = engine_of(), 0.0, []

    def step(drained: int, first: int, of_batch: int) -> None:
        nonlocal now
        now += 1.0
        queued = Queued(2, first + of_batch, 1, first, first=first, few=100)
        computed.append(engine.stepped(now, now, drained, Answers(10, 0), queued))

    step(0, 0, 400)
    step(0, 5_000, 400)  # 100 of batch were computed, and a long prompt came
    for _ in range(2):
        step(0, 5_000, 400)
    assert engine.computed(10_000, now, first=True) == 2 * 2_038
    step(5_000, 0, 400)
    step(0, 0, 400)
    assert computed[1:] == [100, 2_038, 2_038, 924, 100]
    assert engine.of_others == 200


def test_a_step_with_tokens_that_take_longer_than_others_ends_so_much_later() -> None:
    engine = engine_of()

    def begun(first: int, few_times: float | None) -> float:
        """Seconds to an own first token from where such a step begins."""
        queued = Queued(1, 5_000, 1, 5_000, first=first, few=100, times=2.0, few_times=few_times)
        engine.stepped(1.0, 1.0, 0, Answers(10, 0), queued)
        found = engine.first_token_s(10, first, 50, 1.0, first=True)
        assert found is not None
        return found

    own_s = step_s(10, 50)
    assert begun(0, 3.0) == pytest.approx(step_s(10, 300) + own_s)
    assert begun(0, None) == pytest.approx(2.0 * step_s(10, 100) + own_s)
    # A step that computes the prompts of others has none of those.
    assert begun(60, 3.0) == pytest.approx(step_s(10, 60) + own_s)
