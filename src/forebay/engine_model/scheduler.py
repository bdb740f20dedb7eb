"""Which tokens are computed in the next step, and who holds which KV blocks for it.

Each step has a budget of tokens. Running sequences get theirs first, in the order in which they
were admitted; what is left goes to the waiting ones by priority.

After vLLM 0.29, v1/core/sched/scheduler.py (`schedule`), with `scheduling_policy=priority` and its
defaults: chunked prefill, `scheduler_reserve_full_isl`, no watermark. Three of its habits matter to
latency: a running sequence is displaced only when KV runs short, and then by recompute; a step that
preempted admits nobody; a head of the queue whose whole prompt does not fit in free blocks holds up
all behind it.

With `EngineProfile.forebay_scheduler`, also what `serving/engine/vllm_scheduler.py` adds to it:
prompts in parts by request, and sequences that give way to prompts of others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from forebay.engine_model.blocks import BlockPool
from forebay.engine_model.profile import EngineProfile
from forebay.engine_model.scheduling_hints import (
    FEWEST_LEFT_OUT,
    MOST_ALONE,
    MOST_LEFT_OUT,
    tokens_at,
)
from forebay.engine_model.sequences import LiveSequence
from forebay.engine_model.waiting import WaitingQueue


@dataclass(slots=True)
class Batch:
    """A step put together.

    Attributes:
        most: tokens that it may take.
        budget: of these, those that it could still take.
        tokens: to be computed, of each sequence.
        preempted: sequences that lost their blocks for it.
        count: steps in a row that compute just this, one token of each sequence, 1 or more.
    """

    most: int
    budget: int = field(init=False)
    tokens: dict[LiveSequence, int] = field(default_factory=dict)
    preempted: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        self.budget = self.most

    def drop(self, sequence: LiveSequence) -> None:
        """Give the budget back what a preempted sequence had of it."""
        self.budget += self.tokens.pop(sequence, 0)
        self.preempted += 1


class Scheduler:
    """The sequences of one replica, running or waiting, and its KV blocks."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self.pool = BlockPool(profile.usable_blocks)
        self.running: list[LiveSequence] = []
        self.waiting = WaitingQueue()
        self.preemptions = 0
        self._in_parts: list[LiveSequence] = []  # whose prompts ask for parts, as long as they live
        self._low_priority: list[LiveSequence] = []  # those that do, likewise
        self._left_out = 0  # steps in a row in which they were
        self._alone = 0  # steps in a row in which their prompts were limited for nobody

    def add(self, sequence: LiveSequence) -> None:
        """Queue a sequence that arrives."""
        self.waiting.push(sequence)
        if sequence.request.in_parts:
            self._in_parts.append(sequence)
        if sequence.request.gives_way and self.profile.forebay_scheduler:
            self._low_priority.append(sequence)

    def schedule(self) -> Batch:
        """Put the next step together. Not to be called with nothing in the engine."""
        preempted = self.preemptions
        batch = self._attempt()
        while not batch.tokens:
            # A running sequence preempted itself first of all, or all gave way to a prompt for
            # which there is no room. vLLM then has an empty step, which takes no time.
            assert batch.preempted or self._left_out, "nothing can be scheduled"
            self._left_out = MOST_LEFT_OUT if self._left_out else 0
            batch = self._attempt()
        batch.preempted = self.preemptions - preempted
        return batch

    def remove(self, sequence: LiveSequence) -> None:
        """Forget a sequence that is over before its time."""
        if sequence.state == "running":
            self.running.remove(sequence)
            self.end(sequence)
            return
        self.end(sequence)
        self.waiting.withdraw()

    def end(self, sequence: LiveSequence) -> None:
        """Free a sequence's blocks; whoever ends running ones calls `drop_ended` afterwards."""
        self._let_go(sequence)
        sequence.state = "ended"

    def drop_ended(self) -> None:
        """Take what has ended out of the running sequences."""
        self.running = [s for s in self.running if s.state == "running"]

    def longest_run(self, batch: Batch) -> int:
        """For how many steps in a row the engine would do what it does in `batch`: decode only.

        1 unless every running sequence is in it and nobody can be admitted before one ends.
        """
        if len(batch.tokens) != len(self.running) or self.profile.tokens_per_step != 1.0:
            return 1
        if self.waiting and len(self.running) < self.profile.max_num_seqs:
            return 1
        count = min(s.goal - s.length for s in batch.tokens)
        while count > 1 and self._blocks_missing(batch.tokens, count) > self.pool.free:
            count //= 2
        return count

    def extend(self, batch: Batch, count: int) -> None:
        """Make a batch stand for `count` steps, at most `longest_run`.

        Blocks are taken and named in the order in which single steps would do it.
        """
        size = self.profile.block_size
        events = [
            (step, index, sequence)
            for index, sequence in enumerate(batch.tokens)
            for filled in range(-sequence.computed % size, count + 1, size)
            for step in (filled, filled + 1)
            if 1 < step <= count
        ]
        events.sort(key=lambda event: event[:2])
        for step, _, sequence in events:
            self._allocate(sequence, sequence.computed + step)
            self._name_full_blocks(sequence, sequence.computed + step)
        for sequence in batch.tokens:
            sequence.computed += count - 1
            sequence.length += count - 1
        batch.count = count

    def _attempt(self) -> Batch:
        most_tokens = self.profile.max_num_batched_tokens
        prompts_first = self._left_out < MOST_LEFT_OUT and self._prompt_goes_first()
        self._left_out = self._left_out + 1 if prompts_first else 0
        few = self._few(prompts_first=prompts_first)
        chunk = self._chunk(uncut=prompts_first or few > 0)
        most = self.profile.max_num_seqs
        if prompts_first:
            most = min(most, len(self.running) + self._others_waiting())
        elif few:
            chunk, most_tokens = self._limit_prompts(few, chunk)
        batch = Batch(most_tokens)
        self._schedule_running(batch, chunk, prompts_first=prompts_first)
        if not batch.preempted:
            self._schedule_waiting(batch, chunk, most)
        return batch

    def _chunk(self, *, uncut: bool) -> int:
        """Most tokens of a prompt in the next step; those who give way may be `uncut`."""
        profile = self.profile
        part, most = profile.long_prefill_token_threshold, profile.max_num_batched_tokens
        if profile.forebay_scheduler:
            self._in_parts = [s for s in self._in_parts if s.state != "ended"]
            here = (s for s in self._in_parts if not (uncut and s.request.gives_way))
            if not any(map(_is_prompt, here)):
                return most
        return part or most

    def _prompt_goes_first(self) -> bool:
        """Whether those who give way are left out of the next step."""
        if not self._low_priority:
            return False
        self._low_priority = [s for s in self._low_priority if s.state != "ended"]
        ways = [s for s in self._low_priority if s.state == "running" and _gives_way(s)]
        if FEWEST_LEFT_OUT * len(self.running) > len(ways) and not any(map(_is_prompt, ways)):
            return False
        head = self.waiting.head() if len(self.running) < self.profile.max_num_seqs else None
        if head is not None and not head.request.gives_way:
            return True
        return any(_is_prompt(s) and not s.request.gives_way for s in self.running)

    def _others_waiting(self) -> int:
        """Of those waiting, who does not give way; 0 where one who does heads them."""
        head = self.waiting.head()
        if head is None or head.request.gives_way:
            return 0
        return len(self.waiting) - sum(s.state == "waiting" for s in self._low_priority)

    def _few(self, *, prompts_first: bool) -> int:
        """Most prompt tokens of those who give way in the next step; 0: no limit."""
        if prompts_first or not self._low_priority:
            self._alone = 0
            return 0
        prompts = (s for s in reversed(self._low_priority) if _is_prompt(s))
        few = next(
            (tokens_at(s.computed, s.request.step_tokens, s.request.half_at) for s in prompts), 0
        )
        here = len(self.running) + len(self.waiting)
        self._alone = self._alone + 1 if few and here == len(self._low_priority) else 0
        return few if self._alone <= MOST_ALONE else 0

    def _limit_prompts(self, few: int, chunk: int) -> tuple[int, int]:
        """(Most tokens of a prompt, of the step): with so many of prompts of those who give way."""
        self.running.sort(key=lambda s: _is_prompt(s) and 1 + s.request.gives_way)
        last = self.running[-1] if self.running else None
        begun = last is not None and _is_prompt(last) and last.request.gives_way
        slots = 0 if begun else max(self.profile.max_num_seqs - len(self.running), 0)
        prompts = (*filter(_is_prompt, self.running), *self.waiting.first(slots))
        others = sum(s.length - s.computed for s in prompts if not s.request.gives_way)
        answers = sum(s.length - s.computed for s in self.running if not _is_prompt(s))
        most = min(self.profile.max_num_batched_tokens, answers + others + few)
        return (chunk if others else few), most

    def _schedule_running(self, batch: Batch, chunk: int, *, prompts_first: bool) -> None:
        running, index = self.running, 0
        while index < len(running) and batch.budget:
            sequence = running[index]
            if prompts_first and _gives_way(sequence):
                index += 1
                continue
            tokens = sequence.length - sequence.computed
            if tokens > 1:
                tokens = min(tokens, chunk, batch.budget)
            reach = sequence.computed + tokens
            if reach >= sequence.capacity:  # most tokens fill no block and need no new one
                if not self._grow(sequence, reach, batch):
                    return
                index = running.index(sequence)  # victims may have stood before it
                self._name_full_blocks(sequence, reach)
            batch.tokens[sequence] = tokens
            batch.budget -= tokens
            index += 1

    def _schedule_waiting(self, batch: Batch, chunk: int, most: int) -> None:
        """Let the first of the queue run, as long as fewer than `most` do."""
        while batch.budget and len(self.running) < most:
            sequence = self.waiting.head()
            if sequence is None or not self._admit(sequence):
                return
            tokens = min(sequence.length - sequence.computed, chunk, batch.budget)
            reach = sequence.computed + tokens
            self._allocate(sequence, reach)
            self._name_full_blocks(sequence, reach)
            batch.tokens[sequence] = tokens
            batch.budget -= tokens

    def _admit(self, sequence: LiveSequence) -> bool:
        """Let the head of the queue run, if all its known tokens fit beside what is cached."""
        hit = self._hit(sequence)
        missing = self.profile.blocks_for(sequence.length) - len(hit)
        if missing + self.pool.free_among(hit) > self.pool.free:
            return False
        self.waiting.pop()
        self.pool.share(hit)
        sequence.start(hit)
        self.running.append(sequence)
        return True

    def _hit(self, sequence: LiveSequence) -> list[int]:
        """Cached blocks of its beginning; the last token is always computed: it yields the next."""
        if not self.profile.prefix_caching:
            return []
        full = (sequence.length - 1) // sequence.block_size
        sequence.name_blocks(full)
        return self.pool.find(sequence.names[:full])

    def _grow(self, sequence: LiveSequence, reach: int, batch: Batch) -> bool:
        """Give a running sequence blocks for `reach` tokens, if need be those of others.

        Returns:
            False when it was itself the one to give way.
        """
        missing = self.profile.blocks_for(reach) - len(sequence.blocks)
        while missing > self.pool.free:
            victim = max(self.running, key=lambda s: (s.request.priority, s.arrived_at))
            self._preempt(victim, batch)
            if victim is sequence:
                return False
        self._allocate(sequence, reach)
        return True

    def _preempt(self, victim: LiveSequence, batch: Batch) -> None:
        """Back to the queue; what it has produced becomes prompt to compute again."""
        self.running.remove(victim)
        batch.drop(victim)
        self._let_go(victim)
        victim.state = "waiting"
        self.waiting.push(victim)
        self.preemptions += 1

    def _blocks_missing(self, sequences: Iterable[LiveSequence], steps: int) -> int:
        blocks_for = self.profile.blocks_for
        return sum(blocks_for(s.computed + steps) - len(s.blocks) for s in sequences)

    def _allocate(self, sequence: LiveSequence, reach: int) -> None:
        missing = self.profile.blocks_for(reach) - len(sequence.blocks)
        if missing > 0:
            sequence.blocks += self.pool.take(missing)
            sequence.capacity += missing * sequence.block_size

    def _name_full_blocks(self, sequence: LiveSequence, reach: int) -> None:
        """Let others find the blocks that this step fills (in vLLM, too, before it is done)."""
        full = reach // sequence.block_size
        if full <= sequence.named or not self.profile.prefix_caching:
            return
        sequence.name_blocks(full)
        for index in range(sequence.named, full):
            self.pool.name(sequence.blocks[index], sequence.names[index])
        sequence.named = full

    def _let_go(self, sequence: LiveSequence) -> None:
        self.pool.release(sequence.blocks)
        sequence.blocks = []
        sequence.computed = sequence.named = sequence.capacity = 0

    def check_integrity(self, live: set[LiveSequence]) -> None:
        """Raise AssertionError unless exactly `live` are here and the books agree."""
        running = set(self.running)
        assert len(running) == len(self.running) <= self.profile.max_num_seqs
        assert running == {s for s in live if s.state == "running"}
        self.waiting.check_integrity(live - running)
        for sequence in live - running:
            assert sequence.state == "waiting"
            assert not sequence.blocks, sequence
            assert sequence.computed == sequence.capacity == 0, sequence
        self.pool.check_integrity([s.blocks for s in self.running])
        for sequence in self.running:
            self._check_running(sequence)

    def _check_running(self, sequence: LiveSequence) -> None:
        assert 0 < sequence.computed <= sequence.length < sequence.goal, sequence
        assert len(sequence.blocks) == self.profile.blocks_for(sequence.computed), sequence
        assert sequence.capacity == len(sequence.blocks) * sequence.block_size, sequence
        assert sequence.named <= len(sequence.names)
        if self.profile.prefix_caching:
            assert sequence.named == sequence.computed // sequence.block_size

    def __repr__(self) -> str:
        return f"<Scheduler running={len(self.running)} waiting={len(self.waiting)} {self.pool}>"


def _is_prompt(sequence: LiveSequence) -> bool:
    """Whether some of its prompt is still to be computed."""
    return sequence.computed < len(sequence.request.prompt)


def _gives_way(sequence: LiveSequence) -> bool:
    """Whether it does so now: some do only until their prompts are computed."""
    request = sequence.request
    return request.gives_way and (not request.until_answer or _is_prompt(sequence))
