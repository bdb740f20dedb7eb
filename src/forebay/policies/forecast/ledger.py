"""What a replica has promised and not yet delivered, in running totals.

Everything that changes the totals (`queued_prefill`, `queued_sequences`, `running`, `kv_tokens`,
`context`) stands in this file, and `check_integrity` recomputes them from the tickets
(`tickets.py`). What prompts in the engine have in common is counted once (`shared_prefixes.py`),
but in `context`: each attends to all of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from forebay.policies.fairness import TagQueue
from forebay.policies.request import CHUNK, Chunks, Cost, Sequence, SharedPrefixes, Ticket


class Answers(NamedTuple):
    """Answers that run, and the tokens that their next ones attend to, all together."""

    running: int
    context: int


@dataclass(slots=True)
class QueueTotals:
    """Of what is queued: prompt tokens to compute, sequences, and how many of both are held."""

    prefill: int = 0
    sequences: int = 0
    held_prefill: int = 0
    held: int = 0

    @property
    def engine_prefill(self) -> int:
        """Prompt tokens to compute of what is queued in the engine."""
        return self.prefill - self.held_prefill

    def count(self, sequence: Sequence, times: int) -> None:
        """One comes (1) or goes (-1)."""
        self.prefill += times * sequence.prefill
        self.sequences += times
        if sequence.ticket.held:
            self.held += times
            self.held_prefill += times * sequence.prefill


@dataclass(slots=True)
class Lane(QueueTotals):
    """Those who give way, or those who do not (`tickets.py`); of prompts in parts also how many
    there are in the engine, and their tokens.
    """

    in_parts: int = 0
    in_parts_tokens: int = 0

    def count_parts(self, sequence: Sequence, times: int) -> None:
        """One that is computed in parts comes to the engine (1) or goes (-1)."""
        self.in_parts += times
        self.in_parts_tokens += times * sequence.prefill

    def beyond_a_step(self, part: int) -> int:
        """Tokens of prompts computed in parts, beyond one part of each."""
        return self.in_parts_tokens - self.in_parts * part


@dataclass(slots=True)
class ClassTotals(QueueTotals):
    """One class: what is queued, and running sequences."""

    running: int = 0

    @property
    def in_engine(self) -> int:
        """Sequences in the engine, queued or running."""
        return self.sequences - self.held + self.running


class Ledger:
    """Running totals over the open tickets of one replica."""

    def __init__(self, class_names: tuple[str, ...], part: int) -> None:
        """Nothing is promised; a prompt of more than `part` tokens may take several steps."""
        self.part = part
        self.tickets: dict[Ticket, None] = {}
        self.running: dict[Sequence, None] = {}
        self.totals: dict[str, ClassTotals] = {name: ClassTotals() for name in class_names}
        self.front, self.behind = Lane(), Lane()
        self.aside = QueueTotals()  # of those behind, the ones that step aside,
        self.aside_order = TagQueue()  # the same by tag,
        self.aside_at_gate = TagQueue()  # and those of them that are held
        self.order = TagQueue()  # queued sequences by tag, with their prompt tokens to compute
        self.at_gate = TagQueue()  # those of them that are held
        self.held: Counter[tuple[str, str]] = Counter()  # sequences in the engine, by flow,
        self.held_kv: Counter[tuple[str, str]] = Counter()  # and their footprints;
        self.kv_of: Counter[str] = Counter()  # the same by class,
        self.queued_kv = 0  # and of those that are queued
        self.prefixes = SharedPrefixes()  # of what is bound, and so in the engine
        self._own_kv = 0  # tokens of what is in the engine, without those of its chunks
        self.context = 0  # tokens that the running attend to, each to all of its own
        self._low_priority = Answers(0, 0)  # of what runs, those that do
        self.arrived = 0  # queued sequences that have reached the engine
        self.attended = 0  # `Sequence.attended` of those queued in the engine, but for the long
        self.large = self.large_tokens = 0  # of more than a part, of those queued in the engine
        self.long = TagQueue()  # of these the ones that are computed in parts, by tag
        # Of what runs, so that whoever derives from it may keep that: tokens, and beginnings and
        self.changes = 0  # ends of answers;
        self.turned = 0  # those two alone.

    @property
    def queued_prefill(self) -> int:
        """Prompt tokens of admitted requests still to be computed."""
        return self.order.tokens

    @property
    def queued_sequences(self) -> int:
        """Admitted sequences without a first token."""
        return len(self.order)

    @property
    def in_engine(self) -> int:
        """Sequences in the engine, queued or running."""
        return len(self.running) + len(self.order) - len(self.at_gate)

    @property
    def engine_prefill(self) -> int:
        """Prompt tokens to be computed of what is in the engine."""
        return self.order.tokens - self.at_gate.tokens

    @property
    def short_prefill(self) -> int:
        """The same without the prompts that are computed in parts."""
        return self.engine_prefill - self.long.tokens

    def engine_before(self, tag: int) -> tuple[int, int]:
        """(Prompt tokens, sequences) queued in the engine that go before this tag."""
        (tokens, sequences), (held, count) = self.order.before(tag), self.at_gate.before(tag)
        return tokens - held, sequences - count

    @property
    def kv_tokens(self) -> int:
        """KV footprint of what is in the engine, when all has ended as expected, in tokens."""
        return self._own_kv + self.prefixes.tokens

    def kv_before(self, tag: int) -> int:
        """The same without what is queued in the engine and goes after this tag."""
        return self.kv_tokens - self.order.kv_behind(tag) + self.at_gate.kv_behind(tag)

    @property
    def answers(self) -> Answers:
        """Those that run."""
        return Answers(len(self.running), self.context)

    @property
    def going_first(self) -> Answers:
        """Those of them that do not give way to prompts."""
        behind = self._low_priority
        return Answers(len(self.running) - behind.running, self.context - behind.context)

    @property
    def give_way(self) -> int:
        """Sequences in the engine that do so: queued, or running."""
        return self.behind.sequences - self.behind.held + self._low_priority.running

    def kv_beside(self, cost: Cost) -> int:
        """KV tokens that a request of this cost is expected to take beside what others hold."""
        return cost.kv_tokens - self.prefixes.expected(cost.cached_tokens)

    @property
    def kv_held(self) -> int:
        """Tokens that running sequences hold in KV blocks now."""
        chunks = set[int]().union(*[s.chunks for s in self.running])
        return CHUNK * len(chunks) + sum(s.prompt - s.apart + s.produced for s in self.running)

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or running.

        A ticket may outlive its sequences: its answer is made and a slow client still reads it.
        """
        return not self.running and not self.order

    @property
    def engine_has_work(self) -> bool:
        """Whether a sequence that the engine has received is queued or running.

        One that was admitted may be on its way there for long: vLLM first fetches its images.
        """
        return bool(self.running or self.arrived)

    def open(self, ticket: Ticket, expected_output: float) -> None:
        """Enter a ticket with the sequences that its cost names."""
        prefill = ticket.cost.prefill_per_sequence
        prompt = prefill + ticket.cost.cached_per_sequence
        apart = self.prefixes.expected(ticket.cost.cached_per_sequence)
        for _ in range(ticket.cost.sequences):
            sequence = Sequence(
                ticket, prompt, prefill, ticket.cost.output_cap, expected_output, apart=apart
            )
            ticket.sequences.append(sequence)
            self._enqueue(sequence)
        self.tickets[ticket] = None

    def release(self, ticket: Ticket) -> None:
        """A held ticket goes from the gate to the engine."""
        queued = [s for s in ticket.sequences if s.state == "queued"]
        for sequence in queued:
            self._dequeue(sequence)
        ticket.held = False
        for sequence in queued:
            self._enqueue(sequence)

    def bind(
        self, sequence: Sequence, prompt: int, cap: int, expected: float, chunks: Chunks = ()
    ) -> None:
        """Correct a queued sequence by what the engine received, in tokens."""
        self._dequeue(sequence)
        cached = sequence.ticket.cost.cached_per_sequence
        if sequence is sequence.ticket.sequences[0]:  # further ones share with it
            self.prefixes.entered(cached, self.prefixes.held(chunks))
        self._hold(sequence, chunks)
        sequence.bound, sequence.prompt, sequence.prefill = True, prompt, max(prompt - cached, 1)
        sequence.cap, sequence.expected = cap, expected
        self._enqueue(sequence)

    def add_sequence(
        self, ticket: Ticket, prompt: int, cap: int, expected: float, chunks: Chunks = ()
    ) -> Sequence:
        """Enter a sequence that the estimate did not foresee (it is charged all the same)."""
        sequence = Sequence(ticket, prompt, prompt, cap, expected, bound=True)
        self._hold(sequence, chunks)
        ticket.sequences.append(sequence)
        self._enqueue(sequence)
        return sequence

    def _hold(self, sequence: Sequence, chunks: Chunks) -> None:
        sequence.chunks, sequence.apart = chunks, CHUNK * len(chunks)
        sequence.brought = sequence.apart - self.prefixes.held(chunks)
        self.prefixes.hold(chunks)

    def start(self, sequence: Sequence) -> None:
        """The first token is out: queued becomes running."""
        self._dequeue(sequence)
        self.held[sequence.ticket.flow] += 1
        self._take_kv(sequence, sequence.footprint, 1)
        self._run(sequence, 1, sequence.context)
        self.changes += 1
        self.turned += 1
        self.totals[sequence.ticket.class_name].running += 1
        sequence.state = "running"
        self.running[sequence] = None

    def produce(self, sequence: Sequence, tokens: int) -> None:
        """Count generated tokens."""
        self.changes += tokens
        self._run(sequence, 0, tokens)
        after = sequence.produced + tokens
        if after > sequence.expected - 1.0:  # before that, the footprint is the expected one
            before, sequence.produced = sequence.kv_tokens, after
            self._grow(sequence, sequence.kv_tokens - before)
        else:
            sequence.produced = after

    def end(self, sequence: Sequence) -> None:
        """Release what a sequence still holds; a second call changes nothing."""
        if sequence.state == "queued":
            self._dequeue(sequence)
        elif sequence.state == "running":
            self.changes += 1
            self.turned += 1
            del self.running[sequence]
            self.totals[sequence.ticket.class_name].running -= 1
            self._take_kv(sequence, sequence.footprint, -1)
            self._run(sequence, -1, -sequence.context)
            self._let_go(sequence.ticket.flow)
        if sequence.state != "ended":
            self.prefixes.let_go(sequence.chunks)
        sequence.state = "ended"

    def _run(self, sequence: Sequence, more: int, context: int) -> None:
        """So many more sequences run, and attend to so many tokens more."""
        self.context += context
        if sequence.ticket.answers_give_way:
            running, attended = self._low_priority
            self._low_priority = Answers(running + more, attended + context)

    def _take_kv(self, sequence: Sequence, footprint: int, times: int) -> None:
        """A sequence in the engine takes its part of the cache (1) or gives it back (-1)."""
        self._grow(sequence, times * footprint)
        self._own_kv -= times * sequence.brought

    def _grow(self, sequence: Sequence, tokens: int) -> None:
        flow = sequence.ticket.flow
        self._own_kv += tokens
        self.held_kv[flow] += tokens
        self.kv_of[flow[1]] += tokens

    def _let_go(self, flow: tuple[str, str]) -> None:
        """It has one sequence less in the engine, and none of its cache."""
        self.held[flow] -= 1
        if not self.held[flow]:
            del self.held[flow], self.held_kv[flow]

    def close(self, ticket: Ticket) -> None:
        """Release everything a ticket still holds; a second call changes nothing."""
        if ticket.closed:
            return
        ticket.closed = True
        for sequence in ticket.sequences:
            self.end(sequence)
        del self.tickets[ticket]

    def _enqueue(self, sequence: Sequence) -> None:
        ticket, footprint = sequence.ticket, sequence.footprint
        self._count(sequence, 1)
        entry = ticket.tag, sequence.prefill, ticket.kept_by, footprint
        self.order.add(*entry)
        if ticket.held:
            self.at_gate.add(*entry)
        else:
            self.held[ticket.flow] += 1
            self.arrived += sequence.bound
            self._take_kv(sequence, footprint, 1)
            self.queued_kv += footprint
            self._count_parts(sequence, 1)

    def _dequeue(self, sequence: Sequence) -> None:
        ticket, footprint = sequence.ticket, sequence.footprint
        self._count(sequence, -1)
        entry = ticket.tag, sequence.prefill, ticket.kept_by, footprint
        self.order.remove(*entry)
        if ticket.held:
            self.at_gate.remove(*entry)
        else:
            self._take_kv(sequence, footprint, -1)
            self.queued_kv -= footprint
            self._let_go(ticket.flow)
            self.arrived -= sequence.bound
            self._count_parts(sequence, -1)

    def lane(self, ticket: Ticket) -> Lane:
        """Where its prompts are computed."""
        return self.behind if ticket.gives_way else self.front

    def _count(self, sequence: Sequence, times: int) -> None:
        ticket = sequence.ticket
        self.totals[ticket.class_name].count(sequence, times)
        self.lane(ticket).count(sequence, times)
        if ticket.steps_aside:
            self.aside.count(sequence, times)
            for queue in (self.aside_order, *([self.aside_at_gate] if ticket.held else [])):
                change = queue.add if times > 0 else queue.remove
                change(ticket.tag, sequence.prefill, ticket.kept_by)

    def _count_parts(self, sequence: Sequence, times: int) -> None:
        if not sequence.in_parts:
            self.attended += times * sequence.attended
        if sequence.prefill <= self.part:
            return
        self.large += times
        self.large_tokens += times * sequence.prefill
        if not sequence.in_parts:
            return
        ticket = sequence.ticket
        self.lane(ticket).count_parts(sequence, times)
        change = self.long.add if times > 0 else self.long.remove
        change(ticket.tag, sequence.prefill, ticket.kept_by)

    def check_integrity(self) -> None:
        """Raise AssertionError when a total differs from what the tickets add up to."""
        sequences = [s for ticket in self.tickets for s in ticket.sequences]
        for name, totals in self.totals.items():
            queued = [s for s in sequences if s.state == "queued" and s.ticket.class_name == name]
            assert totals.sequences == len(queued), (name, totals, len(queued))
            assert totals.prefill == sum(s.prefill for s in queued), (name, totals)
            assert totals.held == sum(s.ticket.held for s in queued), (name, totals)
            running = [s for s in self.running if s.ticket.class_name == name]
            assert totals.running == len(running), (name, totals, len(running))
        assert self.context == sum(s.context for s in self.running), self.context
        behind = [s.context for s in self.running if s.ticket.answers_give_way]
        assert self._low_priority == Answers(len(behind), sum(behind)), self._low_priority
        self._check_lanes([s for s in sequences if s.state == "queued"])
        self.order.check_integrity()
        assert self.queued_prefill == sum(one.prefill for one in self.totals.values())
        assert self.queued_sequences == sum(one.sequences for one in self.totals.values())
        assert len(self.at_gate) == sum(one.held for one in self.totals.values())
        assert self.at_gate.tokens == sum(one.held_prefill for one in self.totals.values())
        self.at_gate.check_integrity()
        here = [s for s in sequences if s.state != "ended" and not s.ticket.held]
        assert self.held == Counter(s.ticket.flow for s in here)
        assert self.held_kv.keys() == self.held.keys()
        for flow, tokens in self.held_kv.items():
            assert tokens == sum(s.footprint for s in here if s.ticket.flow == flow), flow
        assert self.kv_of.total() == self.held_kv.total()
        assert self.queued_kv == sum(s.footprint for s in here if s.state == "queued")
        assert all(not s.bound and s.state != "running" for s in sequences if s.ticket.held)
        assert self.arrived == sum(s.bound for s in here if s.state == "queued")
        large = [s for s in here if s.state == "queued" and s.prefill > self.part]
        assert (self.large, self.large_tokens) == (len(large), sum(s.prefill for s in large))
        short = [s for s in here if s.state == "queued" and not s.in_parts]
        assert self.attended == sum(s.attended for s in short)
        in_parts = [s for s in large if s.in_parts]
        assert self.front.in_parts + self.behind.in_parts == len(in_parts)
        assert sum(s.prefill for s in in_parts) == self.long.tokens
        assert len(self.long) == len(in_parts)
        self.long.check_integrity()
        assert set(self.running) == {s for s in sequences if s.state == "running"}
        self.prefixes.check_integrity(s.chunks for s in here)
        assert all(s.apart == CHUNK * len(s.chunks) for s in here if s.bound)
        chunks = {chunk for s in here for chunk in s.chunks}
        footprints = CHUNK * len(chunks) + sum(s.kv_tokens for s in here)
        assert self.kv_tokens == footprints, (self.kv_tokens, footprints)

    def _check_lanes(self, queued: list[Sequence]) -> None:
        for lane in (self.front, self.behind):
            mine = [s for s in queued if self.lane(s.ticket) is lane]
            _check_queue(lane, mine)
            in_parts = [s.prefill for s in mine if s.in_parts and not s.ticket.held]
            in_parts = [tokens for tokens in in_parts if tokens > self.part]
            assert (lane.in_parts, lane.in_parts_tokens) == (len(in_parts), sum(in_parts)), lane
        _check_queue(self.aside, [s for s in queued if s.ticket.steps_aside])
        for queue, count, tokens in (
            (self.aside_order, self.aside.sequences, self.aside.prefill),
            (self.aside_at_gate, self.aside.held, self.aside.held_prefill),
        ):
            queue.check_integrity()
            assert (len(queue), queue.tokens) == (count, tokens)

    def __repr__(self) -> str:
        return (
            f"<Ledger queued={self.queued_sequences} ({self.queued_prefill} tokens) "
            f"running={len(self.running)} kv={self.kv_tokens}>"
        )


def _check_queue(totals: QueueTotals, queued: list[Sequence]) -> None:
    held = [s.prefill for s in queued if s.ticket.held]
    assert (totals.sequences, totals.held) == (len(queued), len(held)), totals
    assert totals.prefill == sum(s.prefill for s in queued), totals
    assert totals.held_prefill == sum(held), totals
