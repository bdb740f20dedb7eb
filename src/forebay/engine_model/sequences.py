"""A request to the model engine, its life in it, and what comes out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from forebay.engine_model.tokens import answer_tokens, block_name, first_parent

State = Literal["waiting", "running", "ended"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What the engine is asked.

    Attributes:
        request_id: unique among the requests that the engine has.
        prompt: token ids.
        max_tokens: most tokens of the answer that the client wants.
        stop_after: tokens after which the answer is complete by itself.
        priority: smaller goes first.
        salt: prompts share cached blocks only within one salt.
        answer: token ids that it will give, enough of them; left empty, `answer_tokens` of the
            prompt are taken.
        in_parts: whether all prompts are cut while this one is computed (`forebay_scheduler`).
        gives_way: whether it computes nothing in steps that compute a prompt of who does not give
            way (likewise).
        step_tokens: most prompt tokens that a step computes of all who give way; 0: no limit
            (likewise).
        until_answer: whether it gives way only until its prompt is computed (likewise).
        half_at: place in its prompt at which a step computes half of `step_tokens`; 0: as many
            everywhere (likewise; `policies.marks.tokens_at`).
    """

    request_id: str
    prompt: Sequence[int]
    max_tokens: int
    stop_after: int = sys.maxsize
    priority: int = 0
    salt: str | None = None
    answer: Sequence[int] = ()
    in_parts: bool = False
    gives_way: bool = False
    step_tokens: int = 0
    until_answer: bool = False
    half_at: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gave one request.

    Attributes:
        request_id: of which request.
        new_tokens: tokens of the answer that are new, 1 or more.
        cached_tokens: prompt tokens found in the prefix cache; told with the first token only.
        finish: why the answer ends with these tokens; None while it goes on.
    """

    request_id: str
    new_tokens: int = 1
    cached_tokens: int | None = None
    finish: Finish | None = None


@dataclass(slots=True, eq=False)
class LiveSequence:
    """A request inside the engine.

    Attributes:
        arrived_at: seconds, of the first arrival; kept through preemptions.
        names: of its full blocks, as far as they were needed yet; the prompt's from the start.
        goal: tokens of prompt + answer at which it ends.
        length: tokens that are known: the prompt and the answer so far.
        computed: tokens whose KV is in the cache, or will be when the current step ends.
        prefill_end: `length` when it was last admitted: what lies below is prompt to compute.
        blocks: its KV blocks in the order of its tokens.
        capacity: tokens for which it has blocks.
        named: how many of them are full and entered under their names.
        cached: prompt tokens found in the prefix cache when first admitted.
        usual: the output of an ordinary step, made once.
        decoded: steps that have made tokens of its answer, after the first token.
    """

    request: EngineRequest
    arrived_at: float
    block_size: int
    goal: int
    answer: Sequence[int]
    names: list[int]
    length: int
    usual: Output
    state: State = "waiting"
    computed: int = 0
    prefill_end: int = 0
    blocks: list[int] = field(default_factory=list)
    capacity: int = 0
    named: int = 0
    cached: int | None = None
    told_cached: bool = False
    decoded: int = 0

    @classmethod
    def of(
        cls, request: EngineRequest, now: float, block_size: int, max_model_len: int
    ) -> LiveSequence:
        """A sequence that has just arrived."""
        prompt = len(request.prompt)
        goal = min(prompt + min(request.stop_after, request.max_tokens), max_model_len)
        sequence = cls(
            request=request,
            arrived_at=now,
            block_size=block_size,
            goal=goal,
            answer=request.answer or answer_tokens(request.prompt, goal - prompt),
            names=[],
            length=prompt,
            usual=Output(request.request_id),
        )
        sequence.name_blocks(prompt // block_size)
        return sequence

    @property
    def rank(self) -> tuple[int, float, str]:
        """Order in the waiting queue, smallest first."""
        return self.request.priority, self.arrived_at, self.request.request_id

    @property
    def produced(self) -> int:
        """Tokens of the answer so far."""
        return self.length - len(self.request.prompt)

    @property
    def finish(self) -> Finish:
        """Why its answer ends when `length` reaches `goal`."""
        natural = len(self.request.prompt) + self.request.stop_after
        return "stop" if natural <= self.goal else "length"

    def start(self, hit: list[int]) -> None:
        """Begin to run, or run again, with the cached blocks `hit`, held by now."""
        self.blocks, self.named = hit, len(hit)
        self.computed = self.capacity = len(hit) * self.block_size
        self.prefill_end = self.length
        if self.cached is None:
            self.cached = self.computed
        self.state = "running"

    def made(self, per_step: float) -> int:
        """Tokens of the answer that the step just over has made, `per_step` in the mean."""
        if per_step == 1.0 or not self.produced:
            return 1
        before = int(self.decoded * per_step)
        self.decoded += 1
        return min(int(self.decoded * per_step) - before, self.goal - self.length)

    def tell(self, tokens: int) -> Output:
        """What the client hears of the last `tokens` tokens of the answer."""
        if self.told_cached and tokens == 1 and self.length < self.goal:
            return self.usual
        cached = None if self.told_cached else self.cached
        self.told_cached = True
        finish = self.finish if self.length == self.goal else None
        return Output(self.request.request_id, tokens, cached, finish)

    def name_blocks(self, count: int) -> None:
        """Extend `names` to the first `count` blocks, all full by now."""
        parent = self.names[-1] if self.names else first_parent(self.request.salt)
        for index in range(len(self.names), count):
            start = index * self.block_size
            parent = block_name(parent, self._tokens(start, start + self.block_size))
            self.names.append(parent)

    def _tokens(self, start: int, stop: int) -> tuple[int, ...]:
        prompt = self.request.prompt
        own = len(prompt)
        if stop <= own:
            return tuple(prompt[start:stop])
        return (*prompt[start:stop], *self.answer[max(start - own, 0) : stop - own])
