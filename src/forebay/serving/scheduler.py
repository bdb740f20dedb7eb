"""VLLM's schedulers, which cut prompts in parts only while one that has to be cut is computed.

VLLM's own `long_prefill_token_threshold` holds for every prompt at every step. Prompts that fit in
a step are then computed in several as well, beside each other, which takes longer for all of them
(`prompt_parts.py`). This module is imported by the engine core's process.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request

from forebay.policies.prompt_parts import IN_PARTS


class PartsOnRequest(Scheduler):
    """Reads from requests whether they have to be cut; the tap has written it on them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As vLLM's; the configured threshold is the size of a part."""
        super().__init__(*args, **kwargs)
        self._part = self.scheduler_config.long_prefill_token_threshold
        self._in_parts: list[Request] = []  # as long as they live

    def add_request(self, request: Request) -> None:
        """One more, which may have to be cut."""
        super().add_request(request)
        params = request.sampling_params
        if params is not None and (params.extra_args or {}).get(IN_PARTS):
            self._in_parts.append(request)

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        """The next step. A prompt is computed as long as its tokens are not."""
        self._in_parts = [one for one in self._in_parts if not one.is_finished()]
        cut = any(one.num_computed_tokens < one.num_prompt_tokens for one in self._in_parts)
        self.scheduler_config.long_prefill_token_threshold = self._part if cut else 0
        return super().schedule(throttle_prefills)


class AsyncPartsOnRequest(PartsOnRequest, AsyncScheduler):
    """The same where vLLM schedules a step while the one before is computed."""
