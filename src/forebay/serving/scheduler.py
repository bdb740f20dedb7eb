"""VLLM's schedulers with two rules of Forebay's, for requests that admission has marked.

- Prompts are cut in parts only while one that has to be cut is computed. vLLM's own
  `long_prefill_token_threshold` holds for every prompt at every step. Prompts that fit in a step
  are then computed in several as well, beside each other, which takes longer for all of them.
- Batch gives way: a step that computes an interactive prompt computes nothing of batch. The first
  token comes as soon as if there was none, but for the rest of the step before, which computes only
  so many prompt tokens of batch as admission says.

Nothing of vLLM's scheduling is copied. This module is imported by the engine core's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from forebay.policies.marks import (
    FEWEST_LEFT_OUT,
    GIVES_WAY,
    IN_PARTS,
    MOST_LEFT_OUT,
    STEP_TOKENS,
)

_WAITING = frozenset({RequestStatus.WAITING, RequestStatus.PREEMPTED})  # in vLLM's own queue


class ForebayScheduler(Scheduler):
    """Reads from requests what admission wants of them; the tap has written it on them."""

    max_num_running_reqs: int
    max_num_scheduled_tokens: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As vLLM's; the configured threshold is the size of a part."""
        super().__init__(*args, **kwargs)
        self._part = self.scheduler_config.long_prefill_token_threshold
        self._in_parts: list[Request] = []  # as long as they live
        self._giving_way: dict[str, Request] = {}  # likewise, by id
        self._left_out = 0  # steps in a row in which they were

    def add_request(self, request: Request) -> None:
        """One more, which may be marked."""
        super().add_request(request)
        marks = _marks(request)
        if marks.get(IN_PARTS):
            self._in_parts.append(request)
        if marks.get(GIVES_WAY):
            self._giving_way[request.request_id] = request

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """The next step."""
        left_out = self._to_be_left_out()
        self._left_out = self._left_out + 1 if left_out else 0
        self._in_parts = [one for one in self._in_parts if not one.is_finished()]
        cut = any(_is_prompt(one) and one.request_id not in left_out for one in self._in_parts)
        self.scheduler_config.long_prefill_token_threshold = self._part if cut else 0
        most, most_tokens = self.max_num_running_reqs, self.max_num_scheduled_tokens
        if left_out:
            self._leave_out(left_out)
        elif tokens := self._tokens_of_those_who_give_way():
            self._limit_prompts(tokens)
        step = super().schedule(throttle_prefills)
        self.max_num_running_reqs, self.max_num_scheduled_tokens = most, most_tokens
        if left_out and not step.total_num_scheduled_tokens:
            self._left_out = MOST_LEFT_OUT  # there is no room for the prompt
        return step

    def _to_be_left_out(self) -> dict[str, Request]:
        """Those who give way, where the next step has a prompt of who does not."""
        if not self._giving_way:  # most services have no batch, and every step comes by here
            return {}
        ways = {name: one for name, one in self._giving_way.items() if not one.is_finished()}
        self._giving_way = ways
        running = [one for one in ways.values() if one.status == RequestStatus.RUNNING]
        few = len(running) < FEWEST_LEFT_OUT * len(self.running)
        if self._left_out == MOST_LEFT_OUT or (few and not any(map(_is_prompt, running))):
            return {}
        has_slot = len(self.running) < self.max_num_running_reqs
        if self.waiting and has_slot and self.waiting.peek_request().request_id not in ways:
            return ways
        prompt = any(_is_prompt(one) and one.request_id not in ways for one in self.running)
        return ways if prompt else {}

    def _leave_out(self, requests: dict[str, Request]) -> None:
        """Have the next step compute nothing of running ones, and take in none of the waiting."""
        next_but_one = self.current_step + 2  # vLLM counts the next before it looks
        for one in requests.values():
            one.next_decode_eligible_step = max(one.next_decode_eligible_step, next_but_one)
        waiting = sum(one.status in _WAITING for one in requests.values())
        room = len(self.running) + max(len(self.waiting) - waiting, 1)
        self.max_num_running_reqs = min(self.max_num_running_reqs, room)

    def _tokens_of_those_who_give_way(self) -> int:
        """Most prompt tokens of the next step, where all its prompts give way; 0: no limit."""
        ways = self._giving_way
        if not ways:
            return 0
        has_slot = len(self.running) < self.max_num_running_reqs
        if self.waiting and has_slot and self.waiting.peek_request().request_id not in ways:
            return 0
        if any(_is_prompt(one) and one.request_id not in ways for one in self.running):
            return 0
        prompts = (one for one in reversed(ways.values()) if _is_prompt(one))
        return next((_marks(one).get(STEP_TOKENS, 0) for one in prompts), 0)

    def _limit_prompts(self, tokens: int) -> None:
        """Have the next step compute so many prompt tokens, and a token of every answer."""
        self.running.sort(key=_is_prompt)  # every answer gets its token
        answers = sum(not _is_prompt(one) for one in self.running)
        room = answers * (1 + self.num_spec_tokens) + tokens
        self.max_num_scheduled_tokens = min(self.max_num_scheduled_tokens, room)
        self.scheduler_config.long_prefill_token_threshold = 0


class AsyncForebayScheduler(ForebayScheduler, AsyncScheduler):
    """The same where vLLM schedules a step while the one before is computed."""


def _marks(request: Request) -> Mapping[str, Any]:
    params = request.sampling_params
    return (params.extra_args or {}) if params is not None else {}


def _is_prompt(request: Request) -> bool:
    """Whether some of its prompt is still to be computed."""
    return bool(request.num_computed_tokens < request.num_prompt_tokens)
