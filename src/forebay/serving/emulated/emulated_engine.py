"""The engine model, played in real time on an event loop.

A step begins when the one before it was to end, not when this process got round to it: lateness
does not add up, and the engine is as fast as its profile says for as long as the machine keeps up.
How late each step's results came out is measured, since beyond a few percent the figures would be
this machine's and not the engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

from forebay.engine_model import (
    EngineModel,
    EngineProfile,
    EngineRequest,
    Finish,
    Output,
    SchedulingHints,
    Step,
    answer_tokens,
)
from forebay.load.timing import Alarm
from forebay.measure import StepLateness
from forebay.serving.emulated.text import VOCABULARY
from forebay.serving.engine import EngineHooks

STOP: Finish = "stop"
_MOST_BEHIND_S = 5.0  # after a longer standstill of the machine time starts anew


@dataclass(slots=True)
class EmulatedRequest:
    """A request on its way into the engine, with the fields that the tap reads and sets."""

    request_id: str
    prompt_token_ids: list[int] | None
    sampling_params: SimpleNamespace
    cache_salt: str | None = None
    data_parallel_rank: int | None = None
    priority: int = 0


@dataclass(slots=True)
class Told:
    """What a step did for one request, with the fields that the tap reads."""

    request_id: str
    new_token_ids: list[int]
    finish_reason: Finish | None
    prefill_stats: SimpleNamespace | None


@dataclass(slots=True, frozen=True)
class Delta:
    """New tokens of an answer; `finish` with the last of them."""

    tokens: list[int]
    finish: Finish | None
    cached_tokens: int | None


class _Listener:
    """Deltas that one request's task has not taken yet."""

    def __init__(self, answer: list[int]) -> None:
        self.answer = answer
        self.told = 0
        self.deltas: list[Delta] = []
        self.waiting: asyncio.Future[None] | None = None

    def put(self, output: Output) -> Delta:
        tokens = self.answer[self.told : self.told + output.new_tokens]
        self.told += output.new_tokens
        delta = Delta(tokens, output.finish, output.cached_tokens)
        self.deltas.append(delta)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
        return delta

    def fail(self, error: Exception) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_exception(error)


def _closed() -> RuntimeError:
    return RuntimeError("the engine was closed")


class EmulatedEngine:
    """One replica's engine. Make and use it inside one event loop."""

    def __init__(self, profile: EngineProfile, clock: Callable[[], float]) -> None:
        """`clock` counts seconds as `time.perf_counter` does, which the timer goes by."""
        self.profile = profile
        self.lateness = StepLateness()
        self._model = EngineModel(profile)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._ring)
        self._step: Step | None = None
        self._ends_at = 0.0
        self._listeners: dict[str, _Listener] = {}
        self._tap: EngineHooks | None = None
        self._closed = False

    def attach(self, tap: EngineHooks) -> None:
        """Send every request and step through `tap` from now on."""
        self._tap = tap

    async def generate(
        self, request_id: str, prompt: list[int], max_tokens: int, stop_after: int
    ) -> AsyncIterator[Delta]:
        """The answer as it is made. Left early, the request is aborted.

        Args:
            request_id: unique.
            prompt: token ids.
            max_tokens: most tokens of the answer.
            stop_after: tokens after which the answer ends by itself.

        Raises:
            ValueError: the model engine cannot take such a request.
            RuntimeError: the engine was closed.
        """
        if self._closed:
            raise _closed()
        asked = EmulatedRequest(
            request_id, prompt, SimpleNamespace(max_tokens=max_tokens, extra_args=None)
        )
        if self._tap is not None:
            self._tap.on_add(asked)
            max_tokens = asked.sampling_params.max_tokens  # the service may have a limit of its own
        answer = answer_tokens(prompt, min(max_tokens, stop_after), VOCABULARY)
        listener = self._listeners[request_id] = _Listener(answer)
        request = EngineRequest(
            request_id,
            prompt,
            max_tokens,
            stop_after,
            asked.priority,
            asked.cache_salt,
            answer,
            *SchedulingHints.read(asked.sampling_params.extra_args),
        )
        try:
            self._model.add(request, self._clock())
            self._begin_if_idle()
            async for delta in self._deltas(listener):
                yield delta
        finally:
            del self._listeners[request_id]
            self._model.abort(request_id)  # changes nothing once it has ended

    async def _deltas(self, listener: _Listener) -> AsyncIterator[Delta]:
        while True:
            if not listener.deltas:
                if self._closed:
                    raise _closed()
                listener.waiting = self._loop.create_future()
                await listener.waiting
            ready, listener.deltas = listener.deltas, []
            for delta in ready:
                yield delta
                if delta.finish is not None:
                    return

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks in use, 0 to 1."""
        return self._model.kv_usage

    def close(self) -> None:
        """Make no more steps; who waits for an answer gets an error."""
        if self._closed:
            return
        self._closed = True
        self._alarm.close()
        for listener in self._listeners.values():
            listener.fail(_closed())

    def _begin_if_idle(self) -> None:
        if self._step is None:
            self._ends_at = self._clock()
            self._begin()

    def _begin(self) -> None:
        """Start the next step at the end of the one before, if there is anything to do."""
        if self._closed:
            return
        self._step = self._model.start_step(self._ends_at)
        if self._step is not None:
            self._ends_at = self._step.ends_at
        self._alarm.set(None if self._step is None else self._ends_at)

    def _ring(self) -> None:
        """The step is over: hand out what it made and begin the next."""
        now = self._clock()
        if self._step is None:
            self._alarm.set(None)
            return
        if now < self._ends_at:  # the system's timer may be a little early
            self._alarm.set(self._ends_at)
            return
        ended_at = self._ends_at
        self.lateness.add(now - ended_at, self._step.duration_s)
        if now - ended_at > _MOST_BEHIND_S:
            self._ends_at = now
        try:
            self._hand_out(self._model.finish_step(), ended_at)
        finally:
            self._begin()  # a fault in telling stops nobody else's answer

    def _hand_out(self, outputs: Sequence[Output], ended_at: float) -> None:
        told = []
        for output in outputs:
            listener = self._listeners.get(output.request_id)
            if listener is None:
                continue
            delta = listener.put(output)
            stats = None
            if output.cached_tokens is not None:
                stats = SimpleNamespace(num_cached_tokens=output.cached_tokens)
            told.append(Told(output.request_id, delta.tokens, output.finish, stats))
        if self._tap is not None and told:
            self._tap.on_step(told, ended_at)
