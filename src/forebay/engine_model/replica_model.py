"""One replica: requests come in, steps take their time, tokens come out.

A step is started, lasts, and is finished: only then its tokens exist. Requests may arrive or be
aborted in between, as they may while vLLM's engine is busy.
"""

from __future__ import annotations

from dataclasses import replace

from forebay.engine_model.profile import EngineProfile
from forebay.engine_model.scheduler import Batch, Scheduler
from forebay.engine_model.sequences import EngineRequest, LiveSequence, Output
from forebay.engine_model.steps import Step, steps_begun_within


class EngineModel:
    """One replica. All times are seconds on the caller's clock."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self._scheduler = Scheduler(profile)
        self._live: dict[str, LiveSequence] = {}
        self._batch: Batch | None = None

    @property
    def has_work(self) -> bool:
        """Whether a request is in the engine."""
        return bool(self._live)

    @property
    def in_step(self) -> bool:
        """Whether a step was started and not finished."""
        return self._batch is not None

    @property
    def scheduled(self) -> dict[str, int]:
        """Tokens computed for each request in the step in progress, in each if it is several."""
        tokens = self._batch.tokens if self._batch is not None else {}
        return {sequence.request.request_id: count for sequence, count in tokens.items()}

    @property
    def running(self) -> int:
        """Sequences that hold KV blocks."""
        return len(self._scheduler.running)

    @property
    def waiting(self) -> int:
        """Sequences in the queue, preempted ones included."""
        return len(self._scheduler.waiting)

    @property
    def preemptions(self) -> int:
        """How often a sequence lost its KV blocks, since the start."""
        return self._scheduler.preemptions

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks that running sequences hold, 0 to 1."""
        return self._scheduler.pool.usage

    @property
    def free_blocks(self) -> int:
        """KV blocks that nobody holds; prompts may still find something in them."""
        return self._scheduler.pool.free

    def add(self, request: EngineRequest, now: float) -> None:
        """Queue a request that arrives now; a step in progress goes on without it.

        Raises:
            ValueError: the engine has a request of this id, the prompt is empty or leaves no room
                for an answer, no token is asked for, or `answer` is too short.
        """
        prompt, longest = len(request.prompt), self.profile.max_model_len
        if request.request_id in self._live:
            raise ValueError(f"request {request.request_id} is in the engine already")
        if not 0 < prompt < longest:
            raise ValueError(f"a prompt of {prompt} tokens; 1 to {longest - 1} are possible")
        if request.max_tokens < 1 or request.stop_after < 1:
            raise ValueError("an answer has at least one token")
        sequence = LiveSequence.of(request, now, self.profile.block_size, longest)
        if len(sequence.answer) < sequence.goal - prompt:
            raise ValueError(f"an answer of {sequence.goal - prompt} tokens needs as many ids")
        self._live[request.request_id] = sequence
        self._scheduler.add(sequence)

    def abort(self, request_id: str) -> bool:
        """End a request at once; a step in progress has no output for it.

        Returns:
            Whether the engine had it.
        """
        sequence = self._live.pop(request_id, None)
        if sequence is None:
            return False
        self._scheduler.remove(sequence)
        return True

    def start_step(
        self, now: float, until: float | None = None, *, over: bool = False
    ) -> Step | None:
        """Begin a step with whatever is in the engine now; None when that is nothing.

        Args:
            now: when it begins.
            until: a promise that nothing arrives or is aborted before then. While the same
                sequences just decode, one `Step` stands for all steps that begin before `until`:
                nothing comes out otherwise, only sooner. A simulator knows its next event.
            over: take only those together that are also over by `until`, so that whoever looks
                then sees all that is done and at most one step in progress.

        Raises:
            RuntimeError: the step before was not finished.
        """
        if self._batch is not None:
            raise RuntimeError("the step before was not finished")
        if not self._live:
            return None
        batch = self._batch = self._scheduler.schedule()
        step = self._measured(batch, now)
        if until is not None and not step.prefill_tokens:
            step = self._prolonged(batch, step, until, over=over)
        for sequence, tokens in batch.tokens.items():
            sequence.computed += tokens
        return step

    def finish_step(self) -> list[Output]:
        """End the step in progress: its tokens exist, finished answers leave the engine.

        Raises:
            RuntimeError: no step is in progress.
        """
        batch = self._batch
        if batch is None:
            raise RuntimeError("no step is in progress")
        self._batch = None
        outputs: list[Output] = []
        ended = False
        for sequence in batch.tokens:
            if sequence.computed < sequence.length:
                continue  # more of its prompt is to come, or it was aborted and has nothing
            made = sequence.made(self.profile.tokens_per_step)
            sequence.length += made
            if sequence.length == sequence.goal:
                self._scheduler.end(sequence)
                del self._live[sequence.request.request_id]
                ended = True
            outputs.append(sequence.tell(batch.count - 1 + made))
        if ended:
            self._scheduler.drop_ended()
        return outputs

    def _measured(self, batch: Batch, now: float) -> Step:
        prefill = pairs = decoding = context = 0
        for sequence, tokens in batch.tokens.items():
            start = sequence.computed
            if start >= sequence.prefill_end:
                decoding += 1
                context += start + 1
            else:
                prefill += tokens
                pairs += tokens * start + tokens * (tokens + 1) // 2
        seconds = self.profile.step_time.seconds(prefill, pairs, decoding, context)
        return Step(now, seconds, prefill, pairs, decoding, context, batch.preempted)

    def _prolonged(self, batch: Batch, step: Step, until: float, *, over: bool) -> Step:
        seconds = until - step.started_at
        most = self._scheduler.longest_run(batch) if seconds > step.first_s else 1
        longer = self.profile.step_time.context_token * step.decode_sequences
        count = steps_begun_within(seconds, step.first_s, longer, most)
        if over and replace(step, count=count, longer_s=longer).ends_at > until:
            count -= 1
        if count <= 1:
            return step
        self._scheduler.extend(batch, count)
        return replace(step, count=count, longer_s=longer)

    def check_integrity(self) -> None:
        """Raise AssertionError when the books do not agree with each other."""
        self._scheduler.check_integrity(set(self._live.values()))
        if self._batch is not None:
            given = sum(self._batch.tokens.values())
            assert 0 <= self._batch.budget == self._batch.most - given
            assert self._batch.most <= self.profile.max_num_batched_tokens

    def __repr__(self) -> str:
        return (
            f"<EngineModel {self.profile.name} running={self.running} waiting={self.waiting} "
            f"kv={self.kv_usage:.0%} preemptions={self.preemptions}>"
        )
