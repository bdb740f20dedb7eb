"""The scheduler of one replica: which tokens are computed in the next step.

Each step has a budget of tokens. Running sequences get theirs first, in the order in which they
were admitted; what is left goes to the waiting ones by priority. A step is begun, takes its time,
and is finished: only then its tokens exist. Requests may arrive or be aborted in between.

After vLLM 0.29, v1/core/sched/scheduler.py (`schedule`, `update_from_output`), with
`scheduling_policy=priority` and its defaults: chunked prefill, `scheduler_reserve_full_isl`, no
watermark. Three of its habits matter to latency: a running sequence is displaced only when KV runs
short, and then by recompute; a step that preempted admits nobody; a head of the queue whose whole
prompt does not fit in free blocks holds up all behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forebay.engine_model.blocks import BlockPool
from forebay.engine_model.profile import EngineProfile
from forebay.engine_model.sequences import EngineRequest, LiveSequence, Output
from forebay.engine_model.waiting import WaitingQueue


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the engine: what it computes and how long that takes.

    Attributes:
        started_at: seconds on the caller's clock.
        duration_s: seconds.
        prefill_tokens: prompt tokens computed, recomputed ones included.
        prefill_pairs: pairs of such a token and a token that it attends to.
        decode_sequences: sequences that compute the next token of their answer.
        context_tokens: tokens that these attend to.
        preempted: sequences that lost their KV blocks for it.
    """

    started_at: float
    duration_s: float
    prefill_tokens: int
    prefill_pairs: int
    decode_sequences: int
    context_tokens: int
    preempted: int

    @property
    def ends_at(self) -> float:
        """When its tokens are there."""
        return self.started_at + self.duration_s


@dataclass(slots=True)
class _Batch:
    """A step being put together: the tokens of each sequence and what is left of the budget."""

    budget: int
    tokens: dict[LiveSequence, int] = field(default_factory=dict)
    preempted: int = 0

    def add(self, sequence: LiveSequence, tokens: int) -> None:
        self.tokens[sequence] = tokens
        self.budget -= tokens

    def drop(self, sequence: LiveSequence) -> None:
        self.budget += self.tokens.pop(sequence, 0)
        self.preempted += 1


class EngineModel:
    """One replica. All times are seconds on the caller's clock."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self.pool = BlockPool(profile.usable_blocks)
        self.preemptions = 0
        self._live: dict[str, LiveSequence] = {}
        self._running: list[LiveSequence] = []
        self._waiting = WaitingQueue()
        self._batch: _Batch | None = None
        self._chunk = profile.long_prefill_token_threshold or profile.max_num_batched_tokens

    @property
    def has_work(self) -> bool:
        """Whether a request is in the engine."""
        return bool(self._live)

    @property
    def in_step(self) -> bool:
        """Whether a step was started and not finished."""
        return self._batch is not None

    @property
    def running(self) -> int:
        """Sequences that hold KV blocks."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sequences in the queue, preempted ones included."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks that running sequences hold, 0 to 1."""
        return self.pool.usage

    @property
    def free_blocks(self) -> int:
        """KV blocks that nobody holds; prompts may still find something in them."""
        return self.pool.free

    def add(self, request: EngineRequest, now: float) -> None:
        """Queue a request that arrives now; a step in progress goes on without it.

        Raises:
            ValueError: the engine has a request of this id, the prompt is empty or leaves no room
                for an answer, no token is asked for, or `answer` is too short.
        """
        prompt = len(request.prompt)
        if request.request_id in self._live:
            raise ValueError(f"request {request.request_id} is in the engine already")
        if not 0 < prompt < self.profile.max_model_len:
            raise ValueError(
                f"a prompt of {prompt} tokens; 1 to {self.profile.max_model_len - 1} are possible"
            )
        if request.max_tokens < 1 or request.stop_after < 1:
            raise ValueError("an answer has at least one token")
        sequence = LiveSequence.of(
            request, now, self.profile.block_size, self.profile.max_model_len
        )
        if len(sequence.answer) < sequence.goal - prompt:
            raise ValueError(f"an answer of {sequence.goal - prompt} tokens needs as many ids")
        self._live[request.request_id] = sequence
        self._waiting.push(sequence)

    def abort(self, request_id: str) -> bool:
        """End a request at once; a step in progress has no output for it.

        Returns:
            Whether the engine had it.
        """
        sequence = self._live.get(request_id)
        if sequence is None:
            return False
        was_running = sequence.state == "running"
        if was_running:
            self._running.remove(sequence)
        self._end(sequence)
        if not was_running:
            self._waiting.withdraw()
        return True

    def start_step(self, now: float) -> Step | None:
        """Begin a step with whatever is in the engine now; None when that is nothing.

        Raises:
            RuntimeError: the step before was not finished.
        """
        if self._batch is not None:
            raise RuntimeError("the step before was not finished")
        if not self._live:
            return None
        preempted = self.preemptions
        batch = self._schedule()
        while not batch.tokens:
            # A running sequence preempted itself first of all. vLLM then has an empty step, which
            # takes no time.
            assert batch.preempted, "nothing can be scheduled"
            batch = self._schedule()
        self._batch = batch
        return self._advance(batch, now, self.preemptions - preempted)

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
            if sequence.computed < sequence.length or sequence.state != "running":
                continue  # more of its prompt is to come, or it was aborted meanwhile
            sequence.length += 1
            if sequence.length == sequence.goal:
                ended = True
                self._end(sequence)
                outputs.append(_told(sequence))
            elif sequence.told_cached:
                outputs.append(sequence.usual)
            else:
                outputs.append(_told(sequence))
        if ended:
            self._running = [s for s in self._running if s.state == "running"]
        return outputs

    def _schedule(self) -> _Batch:
        batch = _Batch(self.profile.max_num_batched_tokens)
        self._schedule_running(batch)
        if not batch.preempted:
            self._schedule_waiting(batch)
        return batch

    def _schedule_running(self, batch: _Batch) -> None:
        running, chunk, index = self._running, self._chunk, 0
        while index < len(running) and batch.budget:
            sequence = running[index]
            tokens = min(sequence.length - sequence.computed, chunk, batch.budget)
            reach = sequence.computed + tokens
            if reach > sequence.capacity:
                if not self._grow(sequence, reach, batch):
                    return
                index = running.index(sequence)  # victims may have stood before it
            batch.add(sequence, tokens)
            self._name_full_blocks(sequence, reach)
            index += 1

    def _schedule_waiting(self, batch: _Batch) -> None:
        while batch.budget and len(self._running) < self.profile.max_num_seqs:
            sequence = self._waiting.head()
            if sequence is None or not self._can_admit(sequence):
                return
            self._admit(self._waiting.pop())
            tokens = min(sequence.length - sequence.computed, self._chunk, batch.budget)
            reach = sequence.computed + tokens
            self._allocate(sequence, reach)
            batch.add(sequence, tokens)
            self._name_full_blocks(sequence, reach)

    def _can_admit(self, sequence: LiveSequence) -> bool:
        """Whether all its known tokens fit in free blocks, beside what it finds in the cache."""
        hit = self._hit(sequence)
        missing = self.profile.blocks_for(sequence.length) - len(hit)
        return missing + self.pool.free_among(hit) <= self.pool.free

    def _hit(self, sequence: LiveSequence) -> list[int]:
        """Cached blocks of its beginning; the last token is always computed: it yields the next."""
        if not self.profile.prefix_caching:
            return []
        full = (sequence.length - 1) // sequence.block_size
        sequence.name_blocks(full)
        return self.pool.find(sequence.names[:full])

    def _admit(self, sequence: LiveSequence) -> None:
        hit = self._hit(sequence)
        self.pool.share(hit)
        sequence.blocks, sequence.named = hit, len(hit)
        sequence.computed = len(hit) * sequence.block_size
        sequence.prefill_end = sequence.length
        if sequence.cached is None:
            sequence.cached = sequence.computed
        sequence.state = "running"
        self._running.append(sequence)

    def _grow(self, sequence: LiveSequence, reach: int, batch: _Batch) -> bool:
        """Give a running sequence blocks for `reach` tokens, if need be those of others.

        Returns:
            False when it was itself the one to give way.
        """
        missing = self.profile.blocks_for(reach) - len(sequence.blocks)
        while missing > self.pool.free:
            victim = max(self._running, key=lambda s: (s.request.priority, s.arrived_at))
            self._preempt(victim, batch)
            if victim is sequence:
                return False
        self._allocate(sequence, reach)
        return True

    def _allocate(self, sequence: LiveSequence, reach: int) -> None:
        missing = self.profile.blocks_for(reach) - len(sequence.blocks)
        if missing > 0:
            sequence.blocks += self.pool.take(missing)

    def _preempt(self, victim: LiveSequence, batch: _Batch) -> None:
        """Back to the queue; what it has produced becomes prompt to compute again."""
        self._running.remove(victim)
        batch.drop(victim)
        self._let_go(victim)
        victim.computed = 0
        victim.state = "waiting"
        self._waiting.push(victim)
        self.preemptions += 1

    def _name_full_blocks(self, sequence: LiveSequence, reach: int) -> None:
        """Let others find the blocks that this step fills (in vLLM, too, before it is done)."""
        full = reach // sequence.block_size
        if full <= sequence.named or not self.profile.prefix_caching:
            return
        sequence.name_blocks(full)
        for index in range(sequence.named, full):
            self.pool.name(sequence.blocks[index], sequence.names[index])
        sequence.named = full

    def _advance(self, batch: _Batch, now: float, preempted: int) -> Step:
        prefill = pairs = decoding = context = 0
        for sequence, tokens in batch.tokens.items():
            start = sequence.computed
            sequence.computed = start + tokens
            if start >= sequence.prefill_end:
                decoding += 1
                context += start + 1
            else:
                prefill += tokens
                pairs += tokens * start + tokens * (tokens + 1) // 2
        seconds = self.profile.step_time.seconds(prefill, pairs, decoding, context)
        return Step(now, seconds, prefill, pairs, decoding, context, preempted)

    def _end(self, sequence: LiveSequence) -> None:
        self._let_go(sequence)
        sequence.state = "ended"
        del self._live[sequence.request.request_id]

    def _let_go(self, sequence: LiveSequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.named = 0

    def check_integrity(self) -> None:
        """Raise AssertionError when the books do not agree with each other."""
        live = set(self._live.values())
        running = set(self._running)
        assert len(running) == len(self._running) <= self.profile.max_num_seqs
        assert running == {s for s in live if s.state == "running"}
        self._waiting.check_integrity(live - running)
        assert all(s.state == "waiting" and not s.blocks for s in live - running)
        self.pool.check_integrity([s.blocks for s in self._running])
        for sequence in self._running:
            self._check_sequence(sequence)
        if self._batch is not None:
            assert sum(self._batch.tokens.values()) <= self.profile.max_num_batched_tokens

    def _check_sequence(self, sequence: LiveSequence) -> None:
        assert 0 < sequence.computed <= sequence.length < sequence.goal, sequence
        assert len(sequence.blocks) == self.profile.blocks_for(sequence.computed), sequence
        assert sequence.named <= len(sequence.names)
        if self.profile.prefix_caching:
            assert sequence.named == sequence.computed // sequence.block_size

    def __repr__(self) -> str:
        return (
            f"<EngineModel {self.profile.name} running={self.running} waiting={self.waiting} "
            f"kv={self.kv_usage:.0%} preemptions={self.preemptions}>"
        )


def _told(sequence: LiveSequence) -> Output:
    """The output of a step that is the first or the last for a sequence."""
    cached = None if sequence.told_cached else sequence.cached
    sequence.told_cached = True
    finish = sequence.finish if sequence.length == sequence.goal else None
    return Output(sequence.request.request_id, 1, cached, finish)
