"""What the engine did with each sequence, told to the ledger and to all who learn from it.

Steps show how fast the engine is (`paces.py`) and where it is (`next_step.py`); first tokens, how
late predictions were and how long very long prompts take; ends, how long answers are and whether
they kept the promised pace. Sequences that end without a token are reckoned for what was probably
computed of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from forebay.policies.fairness import FairQueue
from forebay.policies.forecast import (
    Answers,
    BatchPacing,
    ConcurrencyLimits,
    EngineSize,
    ExpectedTTFT,
    Ledger,
    NextStep,
    Paces,
    StepWork,
    Waits,
)
from forebay.policies.request import INTERACTIVE, AdmissionConfig, CostModel, StepOutput, Ticket
from forebay.policies.request import Sequence as Answer

_SLICE = 128  # outputs that vLLM hands on at a time; a step may have more


class _Seen(NamedTuple):
    """What the outputs of a step say.

    Attributes:
        outputs: how many there are.
        drained: prompt tokens of those that got their first token,
        of_batch: and of these, of those whose prompts give way.
        large: whether one of these prompts may have taken several steps.
        decoded: whether answers begun before went on.
        of_others: whether none of those gives way.
    """

    outputs: int
    drained: int
    of_batch: int
    large: bool
    decoded: bool
    of_others: bool


class Feedback:
    """Accounts what the engine did; decides nothing, and lets nobody in."""

    def __init__(
        self,
        config: AdmissionConfig,
        costs: CostModel,
        ledger: Ledger,
        paces: Paces,
        fair: FairQueue,
        size: EngineSize,
        room: ConcurrencyLimits,
        pacing: BatchPacing,
        waits: Waits,
        next_step: NextStep,
        expected_ttft: ExpectedTTFT,
    ) -> None:
        """Each is described where its class is."""
        self._config = config
        self._costs = costs
        self._ledger = ledger
        self._paces = paces
        self._fair = fair
        self._size = size
        self._room = room
        self._pacing = pacing
        self._waits = waits
        self._next_step = next_step
        self._expected_ttft = expected_ttft
        self._work = StepWork(config, ledger, waits, next_step)

    # --- steps ----------------------------------------------------------------------------

    def entered(self, ticket: Ticket, now: float) -> None:
        """The first sequence of a ticket reached the engine at `now` (s)."""
        if not self._ledger.engine_has_work:
            self._waits.last_seen_at = now  # without work it is silent, and does not stall
            own = sum(s.prefill for s in ticket.sequences if not s.in_parts)
            self._paces.woke(now, own)  # of others on their way nothing is computed yet
            self._next_step.woke(now, self._work.queued)
        ticket.entered_at, ticket.stalled_s = now, self._waits.stalled_s
        self._expected_ttft.entered(ticket, now)

    def step(self, outputs: Iterable[StepOutput], engine_at: float, now: float) -> None:
        """A step that ended at `engine_at` and was seen at `now` (seconds)."""
        ledger, work = self._ledger, self._work
        # Of the step that has ended: before its outputs are taken in.
        cut, few = work.computed_very_long, self._waits.few
        effort = self._paces.effort.of(ledger.short_prefill, ledger.attended)
        some_give_way = ledger.answers != ledger.going_first
        self._waits.saw_life(now)
        seen = self._take_in(outputs, now)
        # Of the next.
        answers = work.answers
        prompt_tokens = self._next_step.stepped(
            now=now,
            engine_at=engine_at,
            drained=seen.drained,
            answers=answers,
            queued=work.queued,
            left_out=len(ledger.running) - answers.running,
        )
        computing = work.computing
        large = seen.large or ledger.large or few or computing.few
        left_out: bool | None = some_give_way and seen.of_others
        if some_give_way and seen.outputs >= _SLICE:
            left_out = None  # a further slice may show those who give way
        self._paces.learn(
            drained=prompt_tokens,
            finished=None if large else seen.drained,
            decoded=seen.decoded,
            engine_at=engine_at,
            answers=ledger.answers,
            queued=ledger.arrived,
            binding=computing.binding,
            whole=computing.whole,
            full=self._size.sequences,
            crowded=work.kv_is_short,
            cut=cut,
            first=ledger.going_first,
            left_out=left_out,
            effort=effort,
        )
        self._pacing.stepped(seen.of_batch, ledger.totals[INTERACTIVE].running, now)

    def _take_in(self, outputs: Iterable[StepOutput], now: float) -> _Seen:
        """Enter in the ledger what a step did."""
        count = drained = of_batch = 0
        large, decoded, of_others = False, False, True
        part = self._ledger.part
        for output in outputs:
            sequence = output.sequence
            if sequence.state == "queued":
                tokens = self._first_token(output, now)
                drained += tokens
                large = large or tokens > part
                of_batch += sequence.prefill if sequence.ticket.gives_way else 0
            elif sequence.state == "running":
                decoded = True
                of_others = of_others and not sequence.ticket.answers_give_way
            count += 1
            sequence.ticket.last_token_at = now
            self._progress(output)
        if not self._ledger.queued_sequences:
            self._fair.nothing_waits()
        return _Seen(count, drained, of_batch, large, decoded, of_others)

    def steps(self, outputs: Sequence[StepOutput], ends: Sequence[float]) -> None:
        """Steps in a row in which the same answers go on, ended at `ends` (seconds).

        The outputs are of all of them together. The rates learned are those of single steps.
        """
        ledger = self._ledger
        running, context = len(ledger.running), ledger.context
        queued = ledger.arrived
        for ended in ends[:-1]:
            context += len(outputs)
            self._waits.last_seen_at = ended
            _, whole, binding = self._work.computing
            self._paces.learn(
                drained=0,
                finished=0,
                decoded=True,
                engine_at=ended,
                answers=Answers(running, context),
                queued=queued,
                binding=binding,
                whole=whole,
                full=self._size.sequences,
                crowded=self._work.kv_is_short,
            )
            self._pacing.stepped(0, ledger.totals[INTERACTIVE].running, ended)
        before_last = len(ends) - 1
        if before_last:
            self._go_on(outputs, before_last)
            outputs = [output._replace(tokens=output.tokens - before_last) for output in outputs]
        self.step(outputs, ends[-1], ends[-1])

    def _go_on(self, outputs: Sequence[StepOutput], tokens: int) -> None:
        """So many tokens more of each of these running answers."""
        sequences = [output.sequence for output in outputs]
        self._costs.outputs.passed_together([(s.produced, s.produced + tokens) for s in sequences])
        for sequence in sequences:
            self._ledger.produce(sequence, tokens)

    # --- first tokens ---------------------------------------------------------------------

    def _first_token(self, output: StepOutput, now: float) -> int:
        sequence = output.sequence
        uncached = max(sequence.prompt - (output.cached or 0), 1)
        self._ledger.start(sequence)
        # Not as cautiously long as elsewhere: of long answers more would keep the promised pace.
        likely = self._costs.outputs.likely_total(sequence.cap) if sequence.cap else 0.0
        cut = sequence.in_parts
        self._room.pace.began(sequence.prompt, uncached, likely, in_parts=cut)
        ticket = sequence.ticket
        self._fair.started(ticket.tag)
        if ticket.first_token_at is None:
            ticket.first_token_at = now
            waited_s = now - ticket.admitted_at
            if not ticket.answers_give_way:
                if self._tells_of_long(ticket):
                    self._waits.own.long.came_true(ticket.own_s, self._own_took_s(ticket, now), now)
                else:
                    self._waits.lateness.add(ticket.predicted_s, waited_s, now)
            self._expected_ttft.came_true(ticket, waited_s)
        return uncached

    def _tells_of_long(self, ticket: Ticket) -> bool:
        """Whether it shows how long a very long prompt takes; of several only the first is seen."""
        alone = ticket.cost.sequences == 1
        return alone and ticket.in_parts and self._waits.own.long.parts(ticket.cost) > 0

    def _own_took_s(self, ticket: Ticket, now: float) -> float:
        """Seconds that its own prompts took, without its wait for others and without stalls.

        What it waited at the gate was seen. In the engine it waits as predicted, or if it steps
        aside for those whom it gives way to, which is part of what it takes.
        """
        if ticket.entered_at is None:
            return 0.0
        waited_s = ticket.entered_at - ticket.admitted_at
        if not ticket.steps_aside:
            waited_s = max(waited_s, ticket.ahead_s)
        stalled_s = self._waits.stalled_s - ticket.stalled_s
        return now - ticket.admitted_at - waited_s - stalled_s

    # --- ends -----------------------------------------------------------------------------

    def _progress(self, output: StepOutput) -> None:
        sequence = output.sequence
        if sequence.state != "running":
            return
        before = sequence.produced
        self._ledger.produce(sequence, output.tokens)
        self._costs.outputs.passed(before, sequence.produced)
        if output.ended:
            self._judge_pace(sequence)
            self._end(sequence, natural=output.natural)

    def end(self, sequence: Answer, *, natural: bool) -> None:
        """An answer has ended where no step shows it.

        At a stop string (`natural`), which vLLM finds outside its engine, or since it failed.
        """
        if natural and sequence.state == "running":
            self._judge_pace(sequence)
        self._end(sequence, natural=natural)

    def _end(self, sequence: Answer, *, natural: bool) -> None:
        if sequence.state == "running":
            self._costs.outputs.ended(sequence.produced, natural=natural)
            self._room.ended(sequence)
        self._ledger.end(sequence)

    def _judge_pace(self, sequence: Answer) -> None:
        """An interactive answer has its last token: at the promised pace, or later."""
        ticket, promised_s = sequence.ticket, self._config.tpot_s
        after_first = sequence.produced - 1
        if (
            promised_s is None
            or ticket.answers_give_way
            or after_first < 1
            or len(ticket.sequences) > 1
        ):
            return
        began_at, ended_at = ticket.first_token_at, ticket.last_token_at
        assert began_at is not None
        assert ended_at is not None
        late = (ended_at - began_at) / after_first > promised_s
        self._room.pace.margin.ended(ticket.admitted_at, ended_at, late=late)

    def leaves(self, ticket: Ticket, now: float) -> None:
        """A request is over, however it ended, and is about to be closed."""
        self._count_computed(ticket, now)
        hoped = ticket.first_token_at is None and not ticket.answers_give_way
        if hoped and self._tells_of_long(ticket):
            took_s = self._own_took_s(ticket, now) - self._waits.stalled_now_s(now)
            self._waits.own.long.given_up(ticket.own_s, took_s, now)
        over = ticket.spent_tokens - ticket.cost.tokens
        self._fair.correct(ticket.tenant, ticket.class_name, over, now)

    def _count_computed(self, ticket: Ticket, now: float) -> None:
        """What the engine has probably done for answers that end without a token.

        Or whoever leaves just before it would pay for nothing, and keep others waiting all the
        same. Prompts are computed in the order of their tags; in parts, beside each other, from
        when the prediction has them begin.
        """
        left = [s for s in ticket.sequences if s.bound and s.state == "queued"]
        if not left:
            return
        ledger, rate = self._ledger, self._paces.drain_rate
        begun = self._next_step.begun(ledger.engine_prefill, now)
        begun -= ledger.engine_before(ticket.tag)[0]
        if ticket.steps_aside:  # they take turns
            begun = self._next_step.of_those_behind(ledger.engine_prefill, now)
        for sequence in left:
            if not ticket.steps_aside and (ledger.long or not self._paces.law.known):
                own_s = sequence.prefill / rate if rate else 0.0
                begun = (now - ticket.admitted_at - (ticket.predicted_s - own_s)) * rate
            sequence.computed = round(min(max(begun, 0.0), sequence.prefill))
            begun -= sequence.prefill
            self._next_step.left(sequence.prefill)
