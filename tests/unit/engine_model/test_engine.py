"""One replica on small, exact profiles: what vLLM's scheduler would do, and how long it takes."""

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
    answer_tokens,
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


def ask(
    name: str, prompt: int | list[int], tokens: int = 2, priority: int = 0, salt: str | None = None
) -> EngineRequest:
    """A prompt of so many tokens of its own, or of these tokens."""
    if isinstance(prompt, int):
        own = first_parent(name)
        prompt = [own + place for place in range(prompt)]
    return EngineRequest(name, prompt, tokens, priority=priority, salt=salt)


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

    def cached(self, name: str) -> int | None:
        return next(o.cached_tokens for o in self.outputs if o.request_id == name)

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


def test_running_sequences_get_their_token_before_prompts() -> None:
    run = Run(engine())
    run.add(ask("a", 4, tokens=9))
    run.step()
    run.add(ask("b", 40, tokens=1))
    step = run.step()
    assert (step.decode_sequences, step.prefill_tokens) == (1, 15)


def test_the_long_prefill_threshold_leaves_budget_for_others() -> None:
    run = Run(engine(long_prefill_token_threshold=6))
    run.add(ask("a", 30, tokens=1), ask("b", 5, tokens=1))
    assert run.step().prefill_tokens == 6 + 5
    assert run.step().prefill_tokens == 6
    assert run.first_at.keys() == {"b"}


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


def test_vllms_own_scheduler_knows_nobody_who_gives_way() -> None:
    run = Run(engine())
    run.add(batch("a", 3))
    run.step()
    run.add(ask("b", 4), batch("c", 4))
    step = run.step()
    assert (step.decode_sequences, step.prefill_tokens) == (1, 8)


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


def test_no_more_run_than_there_are_slots() -> None:
    run = Run(engine(max_num_seqs=2))
    run.add(*(ask(name, 3) for name in "abc"))
    run.step()
    assert (run.model.running, run.model.waiting) == (2, 1)


def test_an_answer_stops_by_itself_or_at_a_limit() -> None:
    run = Run(engine())
    run.add(
        EngineRequest("stops", [1], max_tokens=9, stop_after=2),
        EngineRequest("cut", [2], max_tokens=2, stop_after=9),
        EngineRequest("full", list(range(62)), max_tokens=9, stop_after=9),
    )
    run.drain()
    assert {n: (run.tokens(n), run.finish(n)) for n in ("stops", "cut", "full")} == {
        "stops": (2, "stop"),
        "cut": (2, "length"),
        "full": (2, "length"),
    }


def test_smaller_priority_goes_first_then_the_earlier_arrival() -> None:
    run = Run(engine(max_num_seqs=1))
    run.add(ask("late", 4, priority=5))
    run.now = 1.0
    run.add(ask("second", 4, priority=1), ask("tie", 4, priority=1))
    run.now = 2.0
    run.add(ask("first", 4, priority=-1))
    run.drain()
    assert list(run.first_at) == ["first", "second", "tie", "late"]


def test_cached_tokens_come_in_whole_blocks() -> None:
    run = Run(engine())
    run.add(ask("a", list(range(11)), tokens=1))
    run.drain()
    run.add(ask("b", [*range(10), 99, 98], tokens=1))
    assert run.drain()[0].prefill_tokens == 12 - 8
    assert (run.cached("a"), run.cached("b")) == (0, 8)


def test_of_a_prompt_all_in_the_cache_the_last_block_is_computed() -> None:
    run = Run(engine())
    for name in "ab":
        run.add(ask(name, list(range(12)), tokens=1))
        run.drain()
    assert run.cached("b") == 8


def test_salts_share_nothing_and_one_salt_does() -> None:
    run = Run(engine())
    for name, salt in (("a", None), ("b", "x"), ("c", "y"), ("d", "x")):
        run.add(ask(name, list(range(12)), tokens=1, salt=salt))
        run.drain()
    assert [run.cached(name) for name in "abcd"] == [0, 0, 0, 8]


def test_two_who_run_side_by_side_share_what_was_there_before() -> None:
    run = Run(engine())
    run.add(ask("a", list(range(8)), tokens=1))
    run.drain()
    run.add(ask("b", [*range(8), 1], tokens=4), ask("c", [*range(8), 2], tokens=4))
    run.step()
    assert run.model.profile.usable_blocks - run.model.free_blocks == 2 + 1 + 1


def test_a_conversation_that_echoes_the_answer_hits_its_blocks() -> None:
    run = Run(engine())
    prompt = list(range(10))
    run.add(ask("a", prompt, tokens=8))
    run.drain()
    # The last token of the answer was never computed: 17 of 18 are in the cache, 4 blocks.
    run.add(ask("b", [*prompt, *answer_tokens(prompt, 8), 7], tokens=1))
    run.drain()
    assert run.cached("b") == 16


def test_without_prefix_caching_nothing_is_found() -> None:
    run = Run(engine(prefix_caching=False))
    for name in "ab":
        run.add(ask(name, list(range(12)), tokens=1))
        run.drain()
    assert run.cached("b") == 0


def test_what_was_freed_longest_ago_is_evicted_first_and_tails_before_heads() -> None:
    run = Run(engine(kv_blocks=17))  # 16: one request of full length
    run.add(ask("a", list(range(100, 124)), tokens=1))
    run.drain()
    run.add(ask("b", list(range(200, 224)), tokens=1))
    run.drain()
    # 12 blocks are cached, 4 are fresh. Six more: the fresh ones, then the tail of "a".
    run.add(ask("c", list(range(300, 324)), tokens=1))
    run.drain()
    run.add(ask("a2", list(range(100, 124)), tokens=1))
    run.drain()
    assert run.cached("a2") == 16


def test_using_a_block_again_makes_it_young() -> None:
    run = Run(engine(kv_blocks=17))
    for name, start in (("a", 100), ("b", 200), ("a2", 100)):
        run.add(ask(name, list(range(start, start + 24)), tokens=1))
        run.drain()
    run.add(ask("c", list(range(300, 324)), tokens=1))
    run.drain()
    run.add(ask("a3", list(range(100, 124)), tokens=1), ask("b2", list(range(200, 224)), tokens=1))
    run.drain()
    assert run.cached("a3") == 20
    assert (run.cached("b2") or 0) < 20


def test_a_head_that_does_not_fit_holds_up_all_behind_it() -> None:
    run = Run(engine(kv_blocks=17))
    run.add(ask("holder", 36, tokens=20))
    for _ in range(3):
        run.step()
    run.add(ask("big", 40, tokens=1, priority=1), ask("small", 4, tokens=1, priority=2))
    run.step()
    assert run.model.waiting == 2
    run.drain()
    assert list(run.first_at) == ["holder", "big", "small"]


def test_the_whole_prompt_must_fit_before_its_first_chunk_runs() -> None:
    run = Run(engine(kv_blocks=17))
    run.add(ask("holder", 32, tokens=20))
    run.step()
    run.step()
    run.step()
    assert run.model.free_blocks == 7
    run.add(ask("big", 33, tokens=1))  # 9 blocks; its first chunk would need 4
    assert run.step().prefill_tokens == 0


def test_when_kv_runs_short_the_last_in_rank_is_preempted_and_recomputed() -> None:
    run = Run(engine(kv_blocks=17, prefix_caching=False))
    run.add(ask("first", 30, tokens=30, priority=0), ask("last", 24, tokens=20, priority=1))
    steps = run.drain()
    assert run.model.preemptions == 1
    preempting = next(s for s in steps if s.preempted)
    assert (preempting.decode_sequences, preempting.prefill_tokens) == (1, 0)
    assert (run.tokens("first"), run.tokens("last")) == (30, 20)
    # Prompts once, and once more the victim's prompt with what it had produced.
    assert sum(s.prefill_tokens for s in steps) > 30 + 24 + 24
    assert [run.cached("first"), run.cached("last")] == [0, 0]


def test_the_victim_is_the_largest_priority_value_then_the_latest() -> None:
    run = Run(engine(kv_blocks=17))
    run.add(ask("a", 20, tokens=30, priority=3))
    run.step()
    run.step()
    run.add(ask("b", 16, tokens=30, priority=1))
    run.step()
    run.add(ask("c", 16, tokens=30, priority=1))
    while not run.model.preemptions:
        run.step()
    run.model.abort("b")
    run.model.abort("c")
    assert (run.model.running, run.model.waiting) == (0, 1)
    run.step()
    assert run.model.running == 1


def test_a_step_that_preempted_admits_nobody() -> None:
    run = Run(engine(kv_blocks=17, max_num_batched_tokens=64))
    run.add(ask("a", 30, tokens=30), ask("b", 30, tokens=30, priority=1))
    run.step()
    run.add(ask("tiny", 1, tokens=1))
    while not run.model.preemptions:
        running = run.model.running
        step = run.step()
    assert step.prefill_tokens == 0
    assert run.model.running < running


def test_those_behind_a_preempted_sequence_still_get_their_token() -> None:
    run = Run(engine(kv_blocks=17))
    run.add(ask("victim", 14, tokens=40, priority=-1))
    run.step()
    # First to be admitted, while the queue was empty, and yet the last in rank. "a" needs a block
    # when "victim" has got its token already.
    run.add(ask("a", 4, tokens=40, priority=-2), ask("b", 5, tokens=40, priority=-2))
    while not run.model.preemptions:
        step = run.step()
    assert (step.preempted, step.decode_sequences) == (1, 2)
    assert run.model.running == 2


def test_what_was_cached_is_what_was_found_before_any_preemption() -> None:
    run = Run(engine(kv_blocks=17, long_prefill_token_threshold=4))
    run.add(ask("grows", 20, tokens=40), ask("victim", 40, tokens=1, priority=1))
    while not run.model.preemptions:
        run.step()
    assert "victim" not in run.first_at
    steps = run.drain()
    assert run.cached("victim") == 0
    assert sum(s.prefill_tokens for s in steps) < 40, "what it had computed was found again"


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


def test_a_withdrawn_request_is_not_served() -> None:
    run = Run(engine(max_num_seqs=1))
    run.add(ask("a", 4))
    run.step()
    run.add(ask("b", 4), ask("c", 4), ask("d", 4))
    for _ in range(3):
        assert run.model.abort("b")
        assert run.model.waiting == 2
        run.add(ask("b", 4))
    assert run.model.abort("b")
    run.drain()
    assert run.first_at.keys() == {"a", "c", "d"}


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


def test_cached_tokens_are_told_once() -> None:
    run = Run(engine())
    run.add(ask("a", 4, tokens=3))
    run.drain()
    assert [o.cached_tokens for o in run.outputs] == [0, None, None]


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
