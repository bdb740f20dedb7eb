"""The engine under arbitrary histories: what must hold after every step, whatever happens."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from forebay.engine_model import (
    EngineModel,
    EngineProfile,
    EngineRequest,
    SchedulingHints,
    StepTime,
)

CONTEXT = 40


class EngineMachine(RuleBasedStateMachine):
    """Random clients of one small replica."""

    @initialize(
        slots=st.integers(1, 4),
        budget=st.integers(4, 24),
        spare=st.integers(0, 12),
        threshold=st.integers(0, 8),
        on_request=st.booleans(),
        caching=st.booleans(),
    )
    def start(
        self,
        slots: int,
        budget: int,
        spare: int,
        threshold: int,
        *,
        on_request: bool,
        caching: bool,
    ) -> None:
        self.profile = EngineProfile(
            name="random",
            source="made up for tests",
            step_time=StepTime(0.01, 0.001, 0.001, 0.0001, 0.00001),
            max_num_seqs=slots,
            max_num_batched_tokens=budget,
            max_model_len=CONTEXT,
            block_size=4,
            kv_blocks=CONTEXT // 4 + 1 + spare,
            kv_bytes_per_token=1.0,
            text_bytes_per_token=1.0,
            load_s=0.0,
            long_prefill_token_threshold=threshold,
            forebay_scheduler=on_request,
            prefix_caching=caching,
        )
        self.model = EngineModel(self.profile)
        self.now = 0.0
        self.asked: dict[str, EngineRequest] = {}
        self.produced: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.aborted: set[str] = set()

    def expected(self, request: EngineRequest) -> int:
        room = CONTEXT - len(request.prompt)
        return min(request.stop_after, request.max_tokens, room)

    def open(self) -> list[str]:
        return [name for name in self.asked if name not in self.aborted and not self.ended[name]]

    @rule(
        family=st.integers(0, 1),
        prompt=st.integers(1, CONTEXT - 1),
        tokens=st.integers(1, 20),
        stop=st.integers(1, 20),
        priority=st.integers(0, 2),
        salt=st.sampled_from([None, "x"]),
        in_parts=st.booleans(),
        gives_way=st.booleans(),
        step_tokens=st.integers(0, 5),
        until_answer=st.booleans(),
        half_at=st.integers(0, 9),
    )
    def arrive(
        self,
        family: int,
        prompt: int,
        tokens: int,
        stop: int,
        priority: int,
        salt: str | None,
        *,
        in_parts: bool,
        gives_way: bool,
        step_tokens: int,
        until_answer: bool,
        half_at: int,
    ) -> None:
        name = str(len(self.asked))
        ids = range(family, family + prompt)
        request = EngineRequest(name, ids, tokens, stop, priority, salt)
        marks = SchedulingHints(in_parts, gives_way, step_tokens, until_answer, half_at)
        self.asked[name] = replace(request, **marks._asdict())
        self.model.add(self.asked[name], self.now)

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.open()))
        assert self.model.abort(name)
        assert not self.model.abort(name)
        self.aborted.add(name)

    @precondition(lambda self: not self.model.in_step)
    @rule()
    def start_step(self) -> None:
        step = self.model.start_step(self.now)
        if step is None:
            assert not self.open()
            return
        assert step.duration_s > 0
        assert (
            0 < step.prefill_tokens + step.decode_sequences <= self.profile.max_num_batched_tokens
        )
        assert step.context_tokens >= step.decode_sequences
        self.now = step.ends_at

    @precondition(lambda self: self.model.in_step)
    @rule()
    def finish_step(self) -> None:
        for output in self.model.finish_step():
            name = output.request_id
            assert name in self.open(), "an output for a request that is over"
            assert (output.cached_tokens is None) == (self.produced[name] > 0)
            assert (output.cached_tokens or 0) < len(self.asked[name].prompt)
            assert (output.cached_tokens or 0) % self.profile.block_size == 0
            self.produced[name] += output.new_tokens
            if output.finish:
                assert self.produced[name] == self.expected(self.asked[name])
                self.ended[name] += 1

    @invariant()
    def books_agree(self) -> None:
        self.model.check_integrity()
        assert self.model.running + self.model.waiting == len(self.open())
        assert self.model.has_work == bool(self.open())
        assert max(self.ended.values(), default=1) == 1

    def teardown(self) -> None:
        """Left alone, it brings everything to an end, and holds nothing then."""
        if not hasattr(self, "model"):
            return
        while self.model.has_work:
            if not self.model.in_step:
                self.start_step()
            self.finish_step()
            self.books_agree()
        assert not self.open()
        assert self.model.free_blocks == self.profile.usable_blocks


TestEngineMachine = EngineMachine.TestCase
TestEngineMachine.settings = settings(stateful_step_count=40)
