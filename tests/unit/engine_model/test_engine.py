"""One replica on small, exact profiles: how long steps take, and who gives way in them.

That all else is as vLLM's own scheduler does it, step by step: `tests/engine/test_engine_model.py`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from forebay.engine_model import (
    MOST_LEFT_OUT,
    EngineModel,
    EngineProfile,
    EngineRequest,
    Output,
    Step,
    StepTime,
    scheduler,
)
from forebay.engine_model.sequences import LiveSequence
from forebay.engine_model.tokens import first_parent
from forebay.engine_model.waiting import WaitingQueue

BLOCK = 4
PROFILE = EngineProfile(
    name="tiny",
    source="made up for tests",
    step_time=StepTime(1.0, 0.01, 0.1, 0.001, 0.0001),
    max_num_seqs=4,
    max_num_batched_tokens=16,
    max_model_len=64,
    block_size=BLOCK,
    kv_blocks=65,
    kv_bytes_per_token=1.0,
    text_bytes_per_token=1.0,
    load_s=0.0,
)


def engine(**changes: object) -> EngineModel:
    return EngineModel(replace(PROFILE, **changes))  # type: ignore[arg-type]


def ask(name: str, prompt: int, tokens: int = 2, priority: int = 0) -> EngineRequest:
    """A prompt of so many tokens of its own."""
    own = first_parent(name)
    ids = [own + place for place in range(prompt)]
    return EngineRequest(name, ids, tokens, priority=priority)


class Run:
    """An engine with its clock."""

    def __init__(self, model: EngineModel) -> None:
        self.model, self.now = model, 0.0
        self.outputs: list[Output] = []
        self.first_at: dict[str, float] = {}

    def add(self, *requests: EngineRequest) -> None:
        for request in requests:
            self.model.add(request, self.now)

    def step(self) -> Step:
        step = self.model.start_step(self.now)
        assert step is not None
        self.model.check_integrity()
        self.now = step.ends_at
        for output in self.model.finish_step():
            self.outputs.append(output)
            self.first_at.setdefault(output.request_id, self.now)
        self.model.check_integrity()
        return step

    def drain(self) -> list[Step]:
        steps = []
        while self.model.has_work:
            steps.append(self.step())
        return steps

    def tokens(self, name: str) -> int:
        return sum(o.new_tokens for o in self.outputs if o.request_id == name)

    def finish(self, name: str) -> str | None:
        return [o.finish for o in self.outputs if o.request_id == name][-1]


def test_a_lone_request_takes_the_time_that_the_law_says() -> None:
    run = Run(engine())
    run.add(ask("a", 10, tokens=3))
    prefill, second, third = run.drain()
    assert prefill.duration_s == pytest.approx(1.0 + 10 * 0.01 + 55 * 0.0001)
    assert run.first_at["a"] == prefill.duration_s
    assert (second.decode_sequences, second.context_tokens) == (1, 11)
    assert second.duration_s == pytest.approx(1.0 + 0.1 + 11 * 0.001)
    assert third.context_tokens == 12
    assert run.tokens("a") == 3
    assert run.finish("a") == "length"


def test_a_prompt_beyond_the_budget_is_split_over_steps() -> None:
    run = Run(engine())
    run.add(ask("a", 37, tokens=1))
    steps = run.drain()
    assert [s.prefill_tokens for s in steps] == [16, 16, 5]
    assert [s.prefill_pairs for s in steps] == [136, 136 + 256, 15 + 5 * 32]
    assert len(run.outputs) == 1


def test_prompts_are_cut_only_while_one_that_asks_for_it_is_computed() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(6)))
    run.add(ask("a", 14, tokens=1))
    assert run.step().prefill_tokens == 14
    run.add(replace(ask("b", 12, tokens=1), in_parts=True), ask("c", 10, tokens=1))
    assert run.step().prefill_tokens == 6 + 6
    assert run.step().prefill_tokens == 6 + 4
    run.add(ask("d", 14, tokens=1))
    assert run.step().prefill_tokens == 14


def batch(name: str, prompt: int, tokens: int = 9) -> EngineRequest:
    return replace(ask(name, prompt, tokens, priority=1), gives_way=True)


def test_those_who_give_way_have_no_part_in_steps_that_compute_prompts_of_others() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(batch("a", 3))
    run.step()
    run.add(ask("b", 4), batch("c", 4))
    step = run.step()
    assert (step.decode_sequences, step.prefill_tokens) == (0, 4)
    assert (run.tokens("a"), run.tokens("b"), run.model.waiting) == (1, 1, 1)
    step = run.step()
    assert (step.decode_sequences, step.prefill_tokens) == (2, 4)
    run.drain()
    assert {run.tokens(name) for name in "ac"} == {9}


def test_of_prompts_that_give_way_a_step_computes_a_few_tokens_and_of_answers_all() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(ask("a", 3, tokens=9), *(replace(batch(name, 8), step_tokens=5) for name in "bc"))
    assert run.step().prefill_tokens == 3  # of somebody who does not
    steps = [run.step() for _ in range(4)]
    assert [step.prefill_tokens for step in steps] == [5, 5, 5, 1]
    assert [step.decode_sequences for step in steps] == [1, 1, 2, 2]
    run.drain()
    assert {run.tokens(name) for name in "bc"} == {9}


def test_an_answer_that_gives_way_no_longer_has_its_part_in_steps_with_prompts() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(replace(batch("a", 3), until_answer=True), batch("b", 3))
    run.step()
    run.add(ask("c", 4))
    step = run.step()
    assert (step.decode_sequences, step.prefill_tokens) == (1, 4)
    assert (run.tokens("a"), run.tokens("b"), run.tokens("c")) == (2, 1, 1)


def few(name: str, prompt: int, tokens: int, priority: int = 1) -> EngineRequest:
    return replace(batch(name, prompt), step_tokens=tokens, priority=priority)


def test_who_waits_behind_prompts_that_give_way_is_not_held_up_by_their_limit() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(few("b", 8, 2, priority=0), few("c", 8, 2, priority=0), ask("a", 6, priority=1))
    steps = 0
    while "a" not in run.first_at:
        run.step()
        steps += 1
    assert steps == 3  # 16 tokens and its own, where the limit alone would take eight for them


def test_each_ninth_step_computes_a_few_of_theirs_beside_the_prompts_of_others() -> None:
    run, prompts = Run(EngineModel(PROFILE.with_forebay_scheduler(16))), []
    run.add(few("b", 30, 3))
    for number in range(20):
        run.add(ask(f"a{number}", 4, tokens=1))
        prompts.append(run.step().prefill_tokens)
    # Once theirs has begun, it goes before prompts that wait: those are computed in the step after.
    assert prompts == [4] * 8 + [4 + 3] + [4] * 8 + [3] + [4 + 4] + [4]


def test_beside_the_rest_of_a_prompt_no_waiting_one_that_gives_way_is_begun() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(batch("running", 3))
    run.step()
    run.add(ask("a", 10), ask("b", 10), batch("c", 8))  # 16 tokens a step
    assert [run.step().prefill_tokens for _ in range(3)] == [16, 4, 8]


def test_of_a_prompt_that_gives_way_a_step_computes_fewer_tokens_the_further_it_is() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(ask("a", 3, tokens=30))
    run.step()
    run.add(replace(few("b", 40, 12), half_at=12))
    # 12 x 12 / (12 + place) at the places 0, 12, 18, 22, 26, 29, 32, 35, 38.
    assert [run.step().prefill_tokens for _ in range(9)] == [12, 6, 4, 4, 3, 3, 3, 3, 2]
    run.drain()
    assert run.tokens("b") == 9


def test_nobody_keeps_to_the_limit_for_long_where_nobody_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler, "MOST_ALONE", 3)
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(few("a", 20, 2))
    assert [run.step().prefill_tokens for _ in range(4)] == [2, 2, 2, 14]


def test_those_who_give_way_get_on_beside_prompts_without_end() -> None:
    run = Run(EngineModel(PROFILE.with_forebay_scheduler(16)))
    run.add(batch("a", 3))
    run.step()
    for number in range(5 * (MOST_LEFT_OUT + 1)):
        run.add(ask(f"prompt {number}", 4, tokens=1))
        run.step()
    assert run.tokens("a") == 1 + 5


def test_those_who_give_way_do_not_wait_for_a_prompt_that_has_no_room() -> None:
    run = Run(EngineModel(replace(PROFILE, kv_blocks=17).with_forebay_scheduler(16)))
    run.add(batch("a", 30, tokens=9))
    run.step()
    run.step()
    run.add(ask("b", 50, tokens=1))
    assert run.step().decode_sequences == 1
    assert run.model.waiting == 1


def test_an_abort_during_a_step_has_no_output_and_frees_its_blocks() -> None:
    model = engine()
    model.add(ask("a", 4), 0.0)
    model.add(ask("b", 4), 0.0)
    model.start_step(0.0)
    assert model.abort("a")
    model.check_integrity()
    assert [o.request_id for o in model.finish_step()] == ["b"]
    assert model.running == 1
    assert not model.abort("a")


def test_a_request_that_arrives_during_a_step_waits_for_the_next() -> None:
    model = engine()
    model.add(ask("a", 4), 0.0)
    model.start_step(0.0)
    model.add(ask("b", 4), 0.5)
    assert [o.request_id for o in model.finish_step()] == ["a"]
    assert model.waiting == 1


def test_withdrawn_requests_do_not_pile_up_behind_a_long_queue() -> None:
    queue = WaitingQueue()
    for number in range(100):
        sequence = LiveSequence.of(ask(str(number), 4, priority=number), 0.0, BLOCK, 64)
        queue.push(sequence)
        if number:
            sequence.state = "ended"
            queue.withdraw()
    assert repr(queue) == "<WaitingQueue 1 waiting>"
    assert len(queue._heap) < 4


def test_misuse_is_refused() -> None:
    model = engine()
    model.add(ask("a", 4), 0.0)
    with pytest.raises(ValueError, match="already"):
        model.add(ask("a", 4), 0.0)
    for prompt in (0, 64):
        with pytest.raises(ValueError, match="1 to 63"):
            model.add(ask("b", prompt), 0.0)
    with pytest.raises(ValueError, match="at least one"):
        model.add(ask("b", 4, tokens=0), 0.0)
    with pytest.raises(ValueError, match="as many ids"):
        model.add(EngineRequest("b", [1], 5, answer=[1, 2]), 0.0)
    with pytest.raises(RuntimeError):
        model.finish_step()
    model.start_step(0.0)
    with pytest.raises(RuntimeError):
        model.start_step(0.0)


def test_it_tells_its_state() -> None:
    run = Run(engine(max_num_seqs=1))
    assert run.model.start_step(0.0) is None
    run.add(ask("a", 32), ask("b", 4))
    run.step()
    assert repr(run.model) == "<EngineModel tiny running=1 waiting=1 kv=6% preemptions=0>"
    assert run.model.kv_usage == 4 / 64
