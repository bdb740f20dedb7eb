"""Many decode steps taken as one: the same tokens at the same times, only sooner."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.engine_model import EngineModel, EngineProfile, EngineRequest, StepTime
from forebay.engine_model.steps import steps_begun_within

CONTEXT = 48
# Binary fractions: sums of them are exact in whatever order they are added.
EXACT = StepTime(1.0, 2**-6, 2**-5, 2**-9, 2**-12)

Arrival = tuple[float, EngineRequest]


@dataclass
class Told:
    """What a client hears of its request."""

    token_times: list[float] = field(default_factory=list)
    cached: int | None = None
    finish: str | None = None


def profile(slots: int, block: int, spare: int) -> EngineProfile:
    return EngineProfile(
        name="exact",
        source="made up for tests",
        step_time=EXACT,
        max_num_seqs=slots,
        max_num_batched_tokens=16,
        max_model_len=CONTEXT,
        block_size=block,
        kv_blocks=-(-CONTEXT // block) + 1 + spare,
        kv_bytes_per_token=1.0,
        text_bytes_per_token=1.0,
        load_s=0.0,
    )


def play(
    profile: EngineProfile, arrivals: list[Arrival], runs: bool
) -> tuple[dict[str, Told], int]:
    """Play a trace; also says how many steps the caller had to ask for."""
    model, told, now, asked = EngineModel(profile), defaultdict[str, Told](Told), 0.0, 0
    pending = sorted(arrivals, key=lambda arrival: arrival[0])
    while pending or model.has_work:
        while pending and pending[0][0] <= now:
            at, request = pending.pop(0)
            model.add(request, at)
        upcoming = pending[0][0] if pending else math.inf
        step = model.start_step(now, upcoming if runs else None)
        if step is None:
            now = upcoming
            continue
        asked += 1
        model.check_integrity()
        ends, now = step.ends(), step.ends_at
        for output in model.finish_step():
            mine = told[output.request_id]
            mine.token_times += ends[-output.new_tokens :]
            mine.finish = output.finish
            if output.cached_tokens is not None:
                mine.cached = output.cached_tokens
        model.check_integrity()
    return dict(told), asked


arrival = st.tuples(
    st.integers(0, 400).map(lambda eighths: eighths / 8),
    st.integers(0, 2),
    st.integers(1, CONTEXT - 1),
    st.integers(1, 40),
    st.integers(0, 2),
)


@settings(max_examples=40)
@given(
    slots=st.integers(1, 5),
    block=st.sampled_from([1, 2, 4]),
    spare=st.integers(0, 30),
    drawn=st.lists(arrival, min_size=1, max_size=9),
)
def test_runs_change_nothing_that_a_client_hears(
    slots: int, block: int, spare: int, drawn: list[tuple[float, int, int, int, int]]
) -> None:
    arrivals = [
        (at, EngineRequest(str(i), range(family, family + prompt), tokens, priority=priority))
        for i, (at, family, prompt, tokens, priority) in enumerate(drawn)
    ]
    singly, steps = play(profile(slots, block, spare), arrivals, runs=False)
    in_runs, asked = play(profile(slots, block, spare), arrivals, runs=True)
    assert in_runs == singly
    assert asked <= steps


def test_a_quiet_answer_is_one_run() -> None:
    told, asked = play(profile(4, 4, 0), [(0.0, EngineRequest("a", [1, 2], 40))], runs=True)
    assert asked == 2
    assert len(told["a"].token_times) == 40


def test_a_run_ends_with_the_step_in_which_the_next_event_falls() -> None:
    model = EngineModel(profile(4, 4, 0))
    model.add(EngineRequest("a", [1, 2], 40), 0.0)
    model.start_step(0.0)
    model.finish_step()
    run = model.start_step(0.0, until=5.0)
    assert run is not None
    assert run.ends()[-2] < 5.0 <= run.ends_at
    assert [output.new_tokens for output in model.finish_step()] == [run.count]


def test_a_run_may_have_to_be_over_by_then() -> None:
    model = EngineModel(profile(4, 4, 0))
    model.add(EngineRequest("a", [1, 2], 40), 0.0)
    model.start_step(0.0)
    model.finish_step()
    run = model.start_step(0.0, until=5.0, over=True)
    assert run is not None
    assert run.count > 1
    assert run.ends_at <= 5.0
    model.finish_step()
    last = model.start_step(run.ends_at, until=5.0, over=True)
    assert last is not None
    assert (last.count, last.ends_at > 5.0) == (1, True)


@pytest.mark.parametrize("longer", [0.0, 0.25])
@pytest.mark.parametrize("seconds", [0.1, 1.0, 1.5, 2.0, 2.25, 7.5, 40.0])
def test_steps_begun_are_counted_as_by_hand(seconds: float, longer: float) -> None:
    by_hand, begins = 0, 0.0
    while begins < seconds:
        begins += 1.0 + longer * by_hand
        by_hand += 1
    assert steps_begun_within(seconds, 1.0, longer, 1000) == by_hand
    assert steps_begun_within(math.inf, 1.0, longer, 9) == 9
