"""The engine tap: what admission decided is applied where every route meets, and what the engine
really did comes back.

`EngineHooks` knows no vLLM type: `vllm_engine.py` calls it from an `AsyncLLM` subclass at the two
narrow points that every request of every route passes, `_add_request` on the way in and
`OutputProcessor.process_outputs` on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any, Protocol

from forebay.engine_model import SchedulingHints
from forebay.observability import catalogue
from forebay.policies.replica import ReplicaCore
from forebay.policies.request import Chunks, Sequence, StepOutput, Ticket, prompt_chunks
from forebay.serving.engine.gate_queue import GateQueue
from forebay.serving.engine.inflight_limiter import InflightLimiter
from forebay.serving.engine.telemetry import Telemetry

# The ticket under which the current task may call the engine. Tasks that vLLM's handlers start
# copy their context, so it reaches every call that a request makes.
CURRENT_TICKET: ContextVar[Ticket | None] = ContextVar("forebay_ticket", default=None)


class EngineRequest(Protocol):
    """The fields of vLLM's EngineCoreRequest that the tap reads or sets."""

    request_id: str
    prompt_token_ids: list[int] | None
    sampling_params: Any
    cache_salt: str | None
    data_parallel_rank: int | None
    priority: int


class EngineOutput(Protocol):
    """The fields of vLLM's EngineCoreOutput that the tap reads."""

    request_id: str
    new_token_ids: list[int]
    finish_reason: Any
    prefill_stats: Any


class UnadmittedError(RuntimeError):
    """Something called the engine without having been admitted, or for more than was."""


class EngineHooks:
    """Applies tickets to engine requests and reports engine steps to admission."""

    def __init__(
        self,
        core: ReplicaCore,
        telemetry: Telemetry,
        clock: Callable[[], float],
        stop_reason: object,
        most_tokens: int | None = None,
        *,
        prefix_caching: bool = False,
    ) -> None:
        """Know no request.

        Args:
            core: whose tickets these are.
            telemetry: counts tokens.
            clock: seconds.
            stop_reason: the engine's finish reason for an answer that ended by itself.
            most_tokens: of an answer, also where the client sets no limit; None: the context.
            prefix_caching: whether prompts that begin alike share KV blocks in it.
        """
        self.core = core
        self.waiting = GateQueue()  # those held at the gate
        self.inflight_limiter = InflightLimiter()  # those on their way to the engine
        self._most_tokens = most_tokens
        # Ends what the engine still makes for these ids, whoever waits for it.
        self.abort: Callable[[list[str]], None] = lambda ids: None
        self._telemetry = telemetry
        self._clock = clock
        self._stop = stop_reason
        self._prefix_caching = prefix_caching
        self._sequences: dict[str, Sequence] = {}  # by the engine's request id
        self._ids: dict[Ticket, list[str]] = {}

    def on_add(self, request: EngineRequest) -> None:
        """A sequence goes to the engine: stamp the decision on it, whatever the client sent.

        Raises:
            UnadmittedError: the calling task holds no open ticket, one that is held, or one whose
                answers are all being made already.
        """
        ticket = CURRENT_TICKET.get()
        if ticket is None or not self.core.can_take(ticket):
            raise UnadmittedError(f"request {request.request_id} reached the engine unadmitted")
        request.priority = ticket.tag
        request.cache_salt = ticket.cache_salt
        request.data_parallel_rank = None
        prompt = len(request.prompt_token_ids or ())
        cap = self._capped(request.sampling_params)
        self.inflight_limiter.arrived(ticket)
        self._ids.setdefault(ticket, []).append(request.request_id)
        sequence = self.core.took(
            ticket, prompt, cap, self._clock(), self._chunks(request), is_text=_is_text(request)
        )
        self._sequences[request.request_id] = sequence
        _mark(request.sampling_params, sequence)

    def _chunks(self, request: EngineRequest) -> Chunks:
        """What of its prompt a request may share: nothing, where vLLM looks at more than tokens.

        It tells images and embeddings apart that stand for the same tokens, and computes whole
        prompts for those who want their log probabilities.
        """
        if not self._prefix_caching or not _is_text(request):
            return ()
        if getattr(request.sampling_params, "skip_reading_prefix_cache", False):
            return ()
        adapter = getattr(getattr(request, "lora_request", None), "lora_name", None)
        return prompt_chunks(request.prompt_token_ids or (), (request.cache_salt, adapter))

    def _capped(self, params: Any) -> int:
        """Most tokens of the answer, kept within the service's own limit; 0 of what makes none."""
        if params is None:
            return 0
        if self._most_tokens is not None:
            params.max_tokens = min(params.max_tokens or self._most_tokens, self._most_tokens)
            # vLLM's engine core checks this again as it reads the request, and dies of it.
            params.min_tokens = min(getattr(params, "min_tokens", 0), params.max_tokens)
        return params.max_tokens or self.core.admission.costs.context_tokens

    def on_step(self, outputs: Iterable[EngineOutput], engine_at: float | None) -> None:
        """The engine finished a step with these outputs, at its own `engine_at` (seconds)."""
        now = self._clock()
        steps = [step for output in outputs if (step := self._read(output, now)) is not None]
        if steps:
            self.waiting.release(self.core.step(steps, engine_at if engine_at else now, now))
            produced = sum(step.tokens for step in steps)
            self._telemetry.count(catalogue.OUTPUT_TOKENS, amount=produced)
            for ticket in dict.fromkeys([s.sequence.ticket for s in steps if s.cached is not None]):
                if ticket.first_token_at == now:
                    self._telemetry.began(ticket)

    def _read(self, output: EngineOutput, now: float) -> StepOutput | None:
        """What a step did for one sequence; None where it made no token or nobody asks any more."""
        sequence = self._sequences.get(output.request_id)
        if sequence is None:
            return None
        ended = output.finish_reason is not None
        if ended:
            del self._sequences[output.request_id]
        if not output.new_token_ids:
            # It failed, and vLLM says so to its client. In the queue it stays until its ticket is
            # closed: what was computed of its prompt is reckoned there.
            if ended and sequence.state == "running":
                self.waiting.release(self.core.end(sequence, natural=False, now=now))
            return None
        cached = None
        if sequence.state == "queued":
            stats = output.prefill_stats
            cached = stats.num_cached_tokens if stats is not None else 0
            self._telemetry.count(catalogue.PROMPT_TOKENS, amount=sequence.prompt)
            self._telemetry.count(catalogue.CACHED_TOKENS, amount=cached)
        natural = ended and output.finish_reason == self._stop
        return StepOutput(sequence, len(output.new_token_ids), cached, ended, natural)

    def on_stopped(self, request_ids: Iterable[str]) -> None:
        """These answers ended at a stop string, which the engine itself does not see."""
        for request_id in request_ids:
            if (sequence := self._sequences.pop(request_id, None)) is not None:
                self.waiting.release(self.core.end(sequence, natural=True, now=self._clock()))

    def forget(self, ticket: Ticket) -> None:
        """The ticket is over: nothing more is heard of its sequences, and nothing made of them.

        Whoever waits for a whole answer in vLLM's app goes on waiting when its request's task is
        cancelled, as at a missed deadline: vLLM lets only a client that leaves end it.
        """
        ids = self._ids.pop(ticket, ())
        left = [one for one in ids if self._sequences.pop(one, None) is not None]
        if left:
            self.abort(left)


def _is_text(request: EngineRequest) -> bool:
    """Whether its prompt is of tokens alone, and not of images or embeddings, too."""
    embeds = getattr(request, "prompt_embeds", None)
    return embeds is None and not getattr(request, "mm_features", None)


def _mark(params: Any, sequence: Sequence) -> None:
    """For `vllm_scheduler.py`; a client's own marks would have everybody's prompts cut."""
    if params is None:
        return
    params.extra_args = {
        **SchedulingHints.stripped(params.extra_args),
        **sequence.marks.as_args(),
    } or None
