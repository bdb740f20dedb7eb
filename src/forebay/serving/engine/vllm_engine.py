"""vLLM with the tap in it.

`AsyncLLM` is subclassed at two points that every request of every route passes. Both are vLLM
internals of the pinned version; decision record 0004 says why they and not `generate`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from vllm.v1.engine import EngineCoreRequest, FinishReason
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from forebay.policies.request import part_tokens
from forebay.serving.engine.engine_hooks import EngineHooks

_LOG = logging.getLogger("ray.serve")  # goes to the replica's log
STOP = FinishReason.STOP
_SCHEDULERS = "forebay.serving.engine.vllm_scheduler"


class TappedLLM(AsyncLLM):
    """AsyncLLM whose requests and steps go through an `EngineHooks` once one is attached."""

    tap: EngineHooks | None = None

    async def _add_request(self, request: EngineCoreRequest, *args: Any, **kwargs: Any) -> None:
        if self.tap is not None:
            self.tap.on_add(request)
        await super()._add_request(request, *args, **kwargs)

    def attach(self, tap: EngineHooks) -> None:
        """Send every engine request and step through `tap` from now on."""
        self.tap = tap
        tap.abort = self._abort_soon
        self._aborts: set[asyncio.Task[None]] = set()
        self._faults: set[type[Exception]] = set()
        process = self.output_processor.process_outputs

        def process_outputs(outputs: Any, engine_at: float | None = None, stats: Any = None) -> Any:
            self._tell(tap.on_step, outputs, engine_at)
            processed = process(outputs, engine_at, stats)
            if processed.reqs_to_abort:  # answers that a stop string ended, here and not there
                self._tell(tap.on_stopped, processed.reqs_to_abort)
            return processed

        self.output_processor.process_outputs = process_outputs

    def _tell(self, tell: Callable[..., None], *what: Any) -> None:
        """Tell the tap. Its faults end nobody's stream, as they would in vLLM's output handler."""
        try:
            tell(*what)
        except Exception as fault:
            if type(fault) not in self._faults:  # once: it may come again at every step
                self._faults.add(type(fault))
                _LOG.exception("what the engine did was not counted")

    def _abort_soon(self, request_ids: list[str]) -> None:
        """End these, by the ids that the tap has seen; what has ended already is no fault."""
        abort = asyncio.get_running_loop().create_task(self.abort(request_ids, internal=True))
        self._aborts.add(abort)
        abort.add_done_callback(self._aborts.discard)


def executor_class(config: Any) -> type[Executor]:
    """Where the model runs: on CPU, a model of one worker runs in the engine core's own process.

    vLLM's default on CPU is a worker process beside the engine core. The two take turns, and each
    spins on shared memory while it waits for the other, which burns a core that the requests need
    (record 0006). vLLM wants the second process for binding threads to cores; Forebay does that
    itself, see `cores.separate`.
    """
    if config.device_config.device_type == "cpu" and config.parallel_config.world_size == 1:
        return UniProcExecutor
    return Executor.get_class(config)


def schedule_by_marks(scheduler: Any) -> None:
    """Have the marks of requests heeded (`vllm_scheduler.py`), unless the file says how to
    schedule.

    A threshold of the file's own holds for all prompts, as with vLLM alone.
    """
    if not scheduler.enable_chunked_prefill or scheduler.scheduler_cls is not None:
        return
    if not scheduler.long_prefill_token_threshold:
        scheduler.long_prefill_token_threshold = part_tokens(scheduler.max_num_batched_tokens)
        name = "AsyncForebayScheduler" if scheduler.async_scheduling else "ForebayScheduler"
        scheduler.scheduler_cls = f"{_SCHEDULERS}.{name}"


def heeds_marks(scheduler: Any) -> bool:
    """Whether `schedule_by_marks` has put a scheduler of ours in vLLM's config."""
    return str(scheduler.scheduler_cls).startswith(f"{_SCHEDULERS}.")


class ForebayEngine(VLLMEngine):
    """Ray Serve LLM's vLLM engine, built around `TappedLLM`."""

    def _start_async_llm_engine(
        self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any
    ) -> TappedLLM:
        vllm_engine_config.parallel_config.placement_group = placement_group
        schedule_by_marks(vllm_engine_config.scheduler_config)
        # The tap counts what Forebay exports; vLLM's own statistics, taken at every step in two
        # processes and exported through Ray's metrics, would count it a second time.
        return TappedLLM(
            vllm_config=vllm_engine_config,
            executor_class=executor_class(vllm_engine_config),
            log_requests=vllm_engine_args.enable_log_requests,
            log_stats=False,
        )

    @property
    def client(self) -> TappedLLM:
        """The running engine."""
        client = self._engine_client
        assert isinstance(client, TappedLLM), "the engine has not started"
        return client
