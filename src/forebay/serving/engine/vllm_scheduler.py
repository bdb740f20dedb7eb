"""VLLM's schedulers with two rules of Forebay's, for requests that admission has marked.

- Prompts are cut in parts only while one that has to be cut is computed. vLLM's own
  `long_prefill_token_threshold` holds for every prompt at every step. Prompts that fit in a step
  are then computed in several as well, beside each other, which takes longer for all of them.
- Batch gives way: a step that computes an interactive prompt computes nothing of batch, but for
  each ninth. The first token comes as soon as if there was none, but for the rest of the step
  before: a step with prompts of batch computes only so many tokens of them as admission says. So
  do very long interactive prompts, until they are computed.

Nothing of vLLM's scheduling is copied. This module is imported by the engine core's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from forebay.engine_model import (
    FEWEST_LEFT_OUT,
    GIVES_WAY,
    HALF_AT,
    IN_PARTS,
    MOST_ALONE,
    MOST_LEFT_OUT,
    STEP_TOKENS,
    UNTIL_ANSWER,
    tokens_at,
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
        self._low_priority: dict[str, Request] = {}  # likewise, by id
        self._left_out = 0  # steps in a row in which they were
        self._alone = 0  # steps in a row in which their prompts were limited for nobody
        # An image that has to be computed at once would never fit in what a step may take.
        self._limits = not self.scheduler_config.disable_chunked_mm_input

    def add_request(self, request: Request) -> None:
        """One more, which may be marked."""
        super().add_request(request)
        marks = _marks(request)
        if marks.get(IN_PARTS):
            self._in_parts.append(request)
        if marks.get(GIVES_WAY):
            self._low_priority[request.request_id] = request

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """The next step."""
        left_out = self._to_be_left_out()
        self._left_out = self._left_out + 1 if left_out else 0
        few = self._few(left_out)
        self._in_parts = [one for one in self._in_parts if not one.is_finished()]
        uncut = self._low_priority if few else left_out
        cut = any(_is_prompt(one) and one.request_id not in uncut for one in self._in_parts)
        self.scheduler_config.long_prefill_token_threshold = self._part if cut else 0
        most, most_tokens = self.max_num_running_reqs, self.max_num_scheduled_tokens
        if left_out:
            self._leave_out(left_out)
        elif few:
            self._limit_prompts(few)
        step = super().schedule(throttle_prefills)
        self.max_num_running_reqs, self.max_num_scheduled_tokens = most, most_tokens
        if left_out and not step.total_num_scheduled_tokens:
            self._left_out = MOST_LEFT_OUT  # there is no room for the prompt
        return step

    def _to_be_left_out(self) -> dict[str, Request]:
        """Those who give way, where the next step has a prompt of who does not."""
        if not self._low_priority:  # most services have no batch, and every step comes by here
            return {}
        ways = {name: one for name, one in self._low_priority.items() if not one.is_finished()}
        self._low_priority = ways
        ways = {name: one for name, one in ways.items() if _gives_way(one)}
        running = [one for one in ways.values() if one.status == RequestStatus.RUNNING]
        few = len(running) < FEWEST_LEFT_OUT * len(self.running)
        if self._left_out == MOST_LEFT_OUT or (few and not any(map(_is_prompt, running))):
            return {}
        has_slot = len(self.running) < self.max_num_running_reqs
        if has_slot and (head := self._head()) is not None and head.request_id not in ways:
            return ways
        prompt = any(_is_prompt(one) and one.request_id not in ways for one in self.running)
        return ways if prompt else {}

    def _head(self) -> Request | None:
        """The next in line."""
        queue = self._select_waiting_queue_for_scheduling()
        if queue is self.skipped_waiting and not _is_compiled(queue.peek_request()):
            queue = self.waiting
        return queue.peek_request() if queue else None

    def _leave_out(self, requests: dict[str, Request]) -> None:
        """Have the next step compute nothing of running ones, and take in none of the waiting."""
        next_but_one = self.current_step + 2  # vLLM counts the next before it looks
        for one in requests.values():
            one.next_decode_eligible_step = max(one.next_decode_eligible_step, next_but_one)
        room, head = len(self.running), self._head()
        if head is not None and head.request_id not in requests:  # else all wait behind one of them
            waiting = sum(one.status in _WAITING for one in requests.values())
            room += max(len(self.waiting) - waiting, 1)
        self.max_num_running_reqs = min(self.max_num_running_reqs, room)

    def _few(self, left_out: dict[str, Request]) -> int:
        """Most prompt tokens of those who give way in the next step; 0: no limit.

        The newest says how many: it knows best who comes. Fewer the further its own prompt is
        computed, whose tokens take the longer. Where nobody has come for long, the limit
        would keep a long prompt for nothing.
        """
        ways = self._low_priority
        if left_out or not ways or not self._limits:
            self._alone = 0
            return 0
        prompts = (one for one in reversed(ways.values()) if _is_prompt(one))
        few = next((_step_tokens(one) for one in prompts), 0)
        here = len(self.running) + len(self.waiting) + len(self.skipped_waiting)
        self._alone = self._alone + 1 if few and here == len(ways) else 0
        return few if self._alone <= MOST_ALONE else 0

    def _limit_prompts(self, few: int) -> None:
        """Have the next step compute so many prompt tokens of those who give way.

        And what answers need, which go first, and prompts of others. Where one that gives way has
        begun it goes before all that wait: a short step, of which they have no part.
        """
        ways = self._low_priority
        self.running.sort(key=lambda one: _is_prompt(one) and 1 + (one.request_id in ways))
        last = self.running[-1] if self.running else None
        begun = last is not None and _is_prompt(last) and last.request_id in ways
        slots = 0 if begun else max(self.max_num_running_reqs - len(self.running), 0)
        prompts = chain(filter(_is_prompt, self.running), islice(self.waiting, slots))
        others = sum(_left(one) for one in prompts if one.request_id not in ways)
        answers = sum(_left(one) for one in self.running if not _is_prompt(one))
        self.max_num_scheduled_tokens = min(self.max_num_scheduled_tokens, answers + others + few)
        if not others:
            self.scheduler_config.long_prefill_token_threshold = few


class AsyncForebayScheduler(ForebayScheduler, AsyncScheduler):
    """The same where vLLM schedules a step while the one before is computed."""


def _marks(request: Request) -> Mapping[str, Any]:
    params = request.sampling_params
    return (params.extra_args or {}) if params is not None else {}


def _step_tokens(request: Request) -> int:
    """Most prompt tokens of a step, as it stands in its own prompt; 0: no limit."""
    marks, place = _marks(request), request.num_computed_tokens
    return tokens_at(place, int(marks.get(STEP_TOKENS, 0)), int(marks.get(HALF_AT, 0)))


def _is_compiled(request: Request) -> bool:
    """Whether the grammar of a structured answer, which it waited for, is there."""
    asked = request.structured_output_request
    return asked is not None and asked.grammar is not None


def _is_prompt(request: Request) -> bool:
    """Whether some of its prompt is still to be computed."""
    return bool(request.num_computed_tokens < request.num_prompt_tokens)


def _gives_way(request: Request) -> bool:
    """Whether it does so now: some do only until their prompts are computed."""
    return _is_prompt(request) or not _marks(request).get(UNTIL_ANSWER)


def _left(request: Request) -> int:
    """Tokens that it could compute now: of its prompt, or the next of its answer."""
    known: int = request.num_tokens_with_spec + request.num_output_placeholders
    return max(known - request.num_computed_tokens, 0)
