"""Admission: refuse what cannot get its first token in time, before it costs anything.

The decision compares a *predicted TTFT* with the class's budget. The prediction has three parts,
each about one thing a request waits for:

- prefill: prompt tokens queued ahead by tag, and its own, over the measured rate at which the
  engine drains queued prompt tokens while it is the tokens (not the slots) that bind;
- slots and KV: when more sequences (or KV tokens) are ahead than the engine holds, the time until
  enough of the running answers have ended, from their expected remaining lengths and the time per
  output token of a full engine that computes no prompts;
- overhead: a bound on how much later than predicted first tokens really come (`lateness.py`).

The first two add up, for a step takes the time of the one and of the other. Both are longer by what
others will still put ahead (`overtaking.py`).

Everything here is synchronous and pure: `now` comes from the caller's monotonic clock, randomness
from an injected function. The shell (`serving/`) reports what the engine did through `bind`,
`observe_step` and `close`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Listed
from math import inf
from typing import NamedTuple

from forebay.policies.batch_pacing import BatchPacing, Place
from forebay.policies.caution import Caution
from forebay.policies.cost import Cost, CostModel, RequestShape
from forebay.policies.decisions import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    Admitted,
    Decision,
    Shed,
    ShedReason,
    StepOutput,
)
from forebay.policies.engine_size import EngineSize
from forebay.policies.fairness import FairQueue
from forebay.policies.foresight import Foresight
from forebay.policies.giving_way import Way
from forebay.policies.held_queue import HeldQueue
from forebay.policies.lateness import Lateness
from forebay.policies.ledger import Answers, Ledger, Sequence, Ticket
from forebay.policies.next_step import NextStep, Queued
from forebay.policies.overtaking import Flow
from forebay.policies.paces import Paces
from forebay.policies.prediction import Prediction
from forebay.policies.promises import Promises
from forebay.policies.prompt_parts import Cutting, part_tokens
from forebay.policies.room import Room
from forebay.policies.shared_prefixes import Chunks
from forebay.policies.turns import Turns
from forebay.policies.waits import Waits

# The correction may take this share of the tightest budget. A larger error is the model's, and
# would be answered by refusing nearly everything for as long as it is remembered.
_LARGEST_CORRECTION = 0.5
_ERRS_BY = 0.25  # of the tightest budget: what a prediction of 0 errs in proportion to
_SOONEST_RETRY = 0.25  # of the budget, for which a client is asked to wait at least
_SPENT_BY_RETRY = 2.0 * _SOONEST_RETRY  # at most, mostly: waits are jittered up to twice as long
_MOST_SPENT = 0.75
# Of its budget, that a batch request may be predicted to wait. Interactive requests go before it
# without regard to it, so the rest is for more of these than there were when it was let in.
_BATCH_SHARE = 0.75
_SLICE = 128  # outputs that vLLM hands on at a time; a step may have more
_LEAST_WAIT = 0.1  # of the budget, for which a prompt may wait that would be late by itself


class _Spent(NamedTuple):
    """What a request's user has had to bear of it: earlier refusals, seconds since it arrived."""

    retries: int
    waited_s: float


class AdmissionController:
    """Admission state of one replica."""

    def __init__(
        self, config: AdmissionConfig, cost_model: CostModel, jitter: Callable[[], float]
    ) -> None:
        """Start with nothing queued and rates unknown; `jitter` returns values in [0, 1)."""
        self.config = config
        self.costs = cost_model
        self.ledger = Ledger(tuple(config.classes), part_tokens(config.step_tokens))
        self.paces = Paces(config.slots, config.step_tokens)
        self.lateness = _nothing_late_yet(config)
        self.caution = {name: Caution() for name in config.classes}
        self.next_step = NextStep(config.slots, config.step_tokens, self.paces)
        self.cutting = Cutting(config.step_tokens)
        self.turns = Turns(self.cutting, self.ledger, self.next_step)
        self.foresight = Foresight(self.ledger, self.next_step)
        self.fair = FairQueue({name: policy.weight for name, policy in config.classes.items()})
        self.size = EngineSize(config.slots, config.kv_tokens, self.ledger)
        self.room = Room(config, self.ledger, self.paces, self.fair, self.size)
        self.pacing = BatchPacing(
            config.step_tokens, config.batch_stretch, heeds_marks=config.heeds_marks
        )
        self.waits = Waits(
            config,
            cost_model,
            self.ledger,
            self.paces,
            self.fair,
            self.size,
            self.pacing,
            self.next_step,
            self.cutting,
        )
        self.promises = Promises(
            self.size, config.step_tokens, self.ledger, self.paces, self.waits, self.next_step
        )
        self.draining = False
        # Called with each held ticket that may now go to the engine.
        self.on_release: Callable[[Ticket], None] = lambda _: None
        self._jitter = jitter

    # --- deciding -------------------------------------------------------------------------

    def decide(
        self,
        cost: Cost,
        class_name: str,
        now: float,
        tenant: str = "",
        *,
        retries: int = 0,
        waited_s: float = 0.0,
    ) -> Decision:
        """Admit (and enter in the ledger) or shed a request that arrived at `now`.

        Args:
            cost: what it is expected to take.
            class_name: its class.
            now: seconds.
            tenant: whose it is; empty in open mode.
            retries: how often it has been refused before, as its client says.
            waited_s: seconds since it arrived, which its user has waited already.
        """
        flow, budget_s = (tenant, class_name), self.config.classes[class_name].ttft_s
        self.room.offered(flow, cost, now)
        self.caution[class_name].came(others_wait=self._others_wait(class_name))
        if class_name == INTERACTIVE:
            self.pacing.interactive_came(cost, now, cut=self.cutting.cuts(cost))
        place = self.fair.preview(tenant, class_name, now)
        way = self.waits.way(cost, class_name, now)
        prediction = self._predict(cost, flow, place, way, now)
        spent = _Spent(retries, waited_s)
        reason = self._reason_to_shed(cost, flow, place, way, prediction, now, spent)
        if reason is not None:
            wait = self._time_until_fit(reason, cost, class_name, way, prediction)
            return Shed(reason, prediction.total_s, budget_s, wait)
        if self.ledger.idle:
            self.waits.last_seen_at = now  # an engine without work is silent and does not stall
        tag = self.fair.tag(tenant, class_name, cost.tokens, now)
        self.size.let_in(cost)
        self.waits.arrivals.add(flow, cost, now)
        if not self.cutting.cuts(cost):
            self.waits.short.add(("", class_name), cost, now)
        ticket = Ticket(class_name, tag, cost, now, budget_s, prediction.raw_s, tenant)
        ticket.asked_s = waited_s
        _take(ticket, way)
        ticket.ahead_s = prediction.raw_s - prediction.own_s
        ticket.uncut = self.cutting.uncut
        ticket.gives_way, ticket.answers_give_way = way.gives_way, class_name == BATCH
        if ticket.gives_way:  # it waits for others, and not they for it
            ticket.grace_s = self.config.classes[class_name].deadline_s - budget_s
        if ticket.steps_aside:
            ticket.grace_s = inf
        ticket.held = class_name == BATCH or self.turns.waits(ticket, ticket.own_s, now)
        expected_s = self.foresight.of(ticket, prediction, now)
        self.ledger.open(ticket, cost.output_tokens / cost.sequences)
        if class_name == BATCH:
            self.pacing.hold(ticket)
            self._release(now)
            return Admitted(ticket, expected_s)
        self.cutting.came(cost.prefill_per_sequence)
        if ticket.held:
            self.turns.queue_of(ticket).add(ticket)
        elif ticket.steps_aside:
            self.pacing.steps_aside(ticket)
        return Admitted(ticket, expected_s)

    def _others_wait(self, class_name: str) -> bool:
        """Whether there is anybody whom one of this class would cost something by being late.

        Batch gives way to interactive requests anyhow: they take no promise from it.
        """
        if len(self.ledger.running) >= self.size.sequences:
            return True
        if class_name == BATCH:
            return self.ledger.queued_sequences > 0
        return self.ledger.front.sequences > 0

    def predict(self, cost: Cost, class_name: str, now: float, tenant: str = "") -> Prediction:
        """Seconds until a request arriving at `now` would see its first token."""
        place = self.fair.preview(tenant, class_name, now)
        way = self.waits.way(cost, class_name, now)
        return self._predict(cost, (tenant, class_name), place, way, now)

    def _predict(self, cost: Cost, flow: Flow, tag: int, way: Way, now: float) -> Prediction:
        budget_s = self.config.classes[flow[1]].ttft_s
        return self.waits.predict(
            cost,
            flow,
            tag,
            way,
            takes_turns=flow[1] == BATCH or self.turns.takes_them(cost, budget_s, way.own_s),
            lateness=self.lateness,
            caution=self.caution[flow[1]].share,
            now=now,
        )

    def predict_typical(self, class_name: str, now: float) -> Prediction:
        """What the tenant that asks for most would wait with a prompt of a single token.

        One that asks for nothing would go before all that wait, and so say nothing of them.
        """
        small = self.costs.price(RequestShape(prompt_bytes=0, prompt_ids=1, max_tokens=1))
        return self.predict(small, class_name, now, self.waits.arrivals.busiest(class_name))

    @property
    def held_s(self) -> float:
        """Seconds until one more answer may be begun at the promised pace; 0 where it may be.

        What is predicted for one that is let in says nothing of a replica that lets nobody in
        since tokens would come too slowly: with few queued, it would look like the best of all.
        """
        small = self.costs.price(RequestShape(prompt_bytes=0, prompt_ids=1, max_tokens=1))
        over = self.room.too_many(small)
        return self.waits.ends_s(small, over) if over > 0 else 0.0

    @property
    def answer_s(self) -> float:
        """Seconds of the engine's steps that a typical answer takes; 0 while unknown."""
        if not self.paces.law.known:
            return 0.0
        tokens = self.costs.outputs.expected_total(0, self.costs.context_tokens)
        return tokens * self.room.pace.answer_s

    @property
    def ongoing(self) -> float:
        """Answers in the engine, each counted by what it adds to a step beside a typical one.

        In typical ones of its own, and not in seconds: what replicas learn of their steps differs
        more than the steps do.
        """
        law, ledger, typical_s = self.paces.law, self.ledger, self.room.pace.answer_s
        if not typical_s:
            return float(ledger.in_engine)
        context = ledger.context + ledger.engine_prefill
        return (law.seconds(ledger.in_engine, 0, context) - law.base_s) / typical_s

    @property
    def queue_bound(self) -> float:
        """Hard bound on queued prompt tokens: set, or what drains within the largest budget."""
        if self.config.max_queued_tokens is not None:
            return float(self.config.max_queued_tokens)
        if not self.paces.prefill_rate.known:
            return inf
        return self.paces.drain_rate * max(p.ttft_s for p in self.config.classes.values())

    def _reason_to_shed(
        self,
        cost: Cost,
        flow: Flow,
        tag: int,
        way: Way,
        prediction: Prediction,
        now: float,
        spent: _Spent,
    ) -> ShedReason | None:
        class_name = flow[1]
        if self.draining:
            return "draining"
        if self.ledger.idle:
            hopeless = self._is_passed_by_too_many(cost, class_name, prediction, now)
            return "ttft_budget" if hopeless else None
        if self._over_the_bound(cost, class_name) > 0:
            return "queue_full"
        allowed_s = self._allowance(class_name, way, prediction, spent.retries) - spent.waited_s
        if prediction.total_s > allowed_s:
            return "ttft_budget"
        if class_name != BATCH:  # which waits for these at the gate
            if self.room.has_its_part(flow, cost, self.room.parts(now)):
                return "fair_share"
            # Who has not its part yet does not pay for those who came before it with theirs.
            if self.room.too_many(cost) > 0 and not self.room.is_owed(cost, flow, now):
                return "tpot"
        if way.steps_aside:
            return None  # it makes nobody late
        budget_s = self.config.classes[class_name].ttft_s
        takes_turns = self.turns.takes_them(cost, budget_s, way.own_s)
        if self.promises.broken_by(cost, tag, now, takes_turns=takes_turns):
            return "promise_kept"
        return None

    def _is_passed_by_too_many(
        self, cost: Cost, class_name: str, prediction: Prediction, now: float
    ) -> bool:
        """Whether a request would miss its deadline on an engine that is idle for a moment only.

        Where nobody else comes it is let in: to refuse on an idle engine would be for ever.
        """
        # What traffic did to such prompts of late is not what this little will do.
        unhurried_s = prediction.total_s - prediction.own_s * self.waits.hurried(cost, now)
        if unhurried_s <= self.config.classes[class_name].deadline_s:
            return False
        return self.waits.passing(prediction.own_s, now) > self.ledger.part

    def _over_the_bound(self, cost: Cost, class_name: str) -> float:
        """Prompt tokens by which a request would pass the hard bound.

        Interactive requests do not pay for what is held at the gate: it could fill the bound.
        """
        ledger = self.ledger
        queued = ledger.queued_prefill if class_name == BATCH else ledger.engine_prefill
        own = cost.prefill_tokens
        if self.config.max_queued_tokens is None:  # or a long one would be refused for itself
            own = min(own, self.config.step_tokens)
        return queued + own - self.queue_bound

    def _allowance(self, class_name: str, way: Way, prediction: Prediction, retries: int) -> float:
        """Longest prediction that is admitted, in seconds.

        The user of a request that comes again has waited already: what is left of the budget is
        less. Beside others who could still be in time from their first attempt on, it would be
        late and have made one of them late.

        A prompt whose own computation leaves little of the budget could rarely or never meet it;
        it is judged by the wait in front of it, so that long prompts stay servable. But what would
        still have no first token at its deadline is aborted then, and never begun: the time it took
        would be lost to all. What gives way for being that long makes nobody late: it may wait.
        """
        policy = self.config.classes[class_name]
        caution = self.caution[class_name].share
        if way.steps_aside:
            return policy.deadline_s * (1.0 - self.config.margin * caution)
        spent = min(_SPENT_BY_RETRY * retries, _MOST_SPENT)
        budget = policy.ttft_s * (1.0 - self.config.margin * caution) * (1.0 - spent * caution)
        if class_name == BATCH:
            budget *= _BATCH_SHARE
        servable = _LEAST_WAIT * budget + prediction.own_s + prediction.overhead_s
        return min(max(budget, servable), policy.deadline_s)

    def _time_until_fit(
        self, reason: ShedReason, cost: Cost, class_name: str, way: Way, prediction: Prediction
    ) -> float:
        """Seconds until the same request would fit, jittered."""
        policy = self.config.classes[class_name]
        share = _BATCH_SHARE if class_name == BATCH else 1.0
        promised_s = policy.deadline_s if way.steps_aside else share * policy.ttft_s
        excess = prediction.total_s - promised_s * (1.0 - self.config.margin)
        if reason == "queue_full" and self.paces.prefill_rate.known:
            over_s = self.paces.prompts_s(self._over_the_bound(cost, class_name))
            excess = max(excess, over_s)
        elif reason == "draining":
            excess = policy.ttft_s
        elif reason == "promise_kept":
            excess = self.waits.backlog_s(cost)  # then nobody is left to be overtaken
        elif reason == "tpot":
            excess = self.waits.ends_s(cost, self.room.too_many(cost))
        elif reason == "fair_share":
            excess = self.waits.ends_s(cost, cost.sequences)
        # An overloaded replica frees room at the pace of its budget: a client back sooner than
        # a quarter of it would mostly be refused again.
        floor = _SOONEST_RETRY * policy.ttft_s
        return self.jittered(max(excess, floor))

    def jittered(self, seconds: float) -> float:
        """Up to twice as long, so that clients who obey do not come back in a wave."""
        return seconds * (1.0 + self._jitter())

    # --- releasing ------------------------------------------------------------------------

    def _release(self, now: float) -> None:
        """Let into the engine whoever of those held at the gate may go."""
        if not (self.turns.waiting or len(self.pacing.held)):
            return  # as at nearly every step
        self._release_in_turn(self.turns.held, now)
        self._release_batch(now)
        self._release_in_turn(self.turns.held_aside, now)  # with batch of earlier tags before it

    def _release_in_turn(self, held: HeldQueue, now: float) -> None:
        while (ticket := held.first()) is not None and self.turns.may_enter(ticket, now):
            held.remove(ticket)
            if ticket.steps_aside:
                self._look_again(ticket, now)
            self._enter(ticket)

    def _release_batch(self, now: float) -> None:
        parts = self.room.parts(now) if len(self.pacing.held) else {}
        for ticket in self.pacing.held.in_turn():
            if self.ledger.in_engine and self.room.has_its_part(ticket.flow, ticket.cost, parts):
                continue
            if self._may_enter(ticket, now):
                if self.pacing.shares(now):  # an interactive request waits for its steps
                    ticket.uncut = self.ledger.part
                    if self.config.heeds_marks:
                        ticket.step_tokens = self.pacing.step_tokens(self.paces.law)
                self.pacing.enters(ticket)
                self._enter(ticket)
            else:
                return

    def _look_again(self, ticket: Ticket, now: float) -> None:
        """What comes of others has changed while a very long prompt was held at the gate."""
        deadline_s = self.config.classes[ticket.class_name].deadline_s
        left_s = ticket.admitted_at - ticket.asked_s + deadline_s - now
        way = self.waits.way(ticket.cost, ticket.class_name, now, left_s)
        if way.steps_aside:
            _take(ticket, way)
        self.pacing.steps_aside(ticket)

    def _enter(self, ticket: Ticket) -> None:
        self.ledger.release(ticket)
        self.on_release(ticket)

    def _may_enter(self, ticket: Ticket, now: float) -> bool:
        ledger = self.ledger
        if self.turns.goes_before(ticket):
            return False
        in_engine = ledger.totals[BATCH].in_engine
        tokens, sequences = ledger.engine_before(ticket.tag)
        tokens_left = max(tokens - self.next_step.of_others, 0.0)
        place = Place(ledger.in_engine, in_engine, tokens_left, sequences)
        if place.batch:
            if self.room.batch_has_its_part(ticket.cost):
                return False
            if not (self.room.leaves_enough(ticket.cost) or self.pacing.is_urgent(ticket, now)):
                return False
        return self.pacing.may_enter(ticket, place, self.paces.law, now)

    # --- learning -------------------------------------------------------------------------

    def forget_warm_up(self) -> None:
        """What came so far was no traffic, and was predicted without knowing the engine."""
        self.paces.warmed_up()
        self.lateness = _nothing_late_yet(self.config)
        self.waits.forget()
        self.cutting.forget()
        self.caution = {name: Caution() for name in self.config.classes}
        self.foresight.forget()
        self.pacing.forget()
        self.room.forget()

    def bind(
        self, ticket: Ticket, prompt_tokens: int, output_cap: int, chunks: Chunks = ()
    ) -> Sequence:
        """The engine received one sequence of a ticket: `prompt_tokens` are exact.

        Its prompt's `chunks` are none where the engine shares no prefixes.
        """
        expected = self.costs.outputs.expected_total(0, output_cap) if output_cap else 0.0
        expected = max(expected, min(ticket.cost.output_least, output_cap))
        sequence = ticket.next_unbound()
        if sequence is None:
            return self.ledger.add_sequence(ticket, prompt_tokens, output_cap, expected, chunks)
        self.ledger.bind(sequence, prompt_tokens, output_cap, expected, chunks)
        return sequence

    def entered(self, ticket: Ticket, now: float) -> None:
        """The first sequence of a ticket reached the engine at `now` (s)."""
        ledger = self.ledger
        if ledger.in_engine == len(ticket.sequences):
            self.paces.woke(now, ledger.short_prefill)
            self.next_step.woke(now, self._queued)
        ticket.entered_at, ticket.stalled_s = now, self.waits.stalled_s
        self.foresight.entered(ticket, now)

    def observe_step(self, outputs: Iterable[StepOutput], engine_at: float, now: float) -> None:
        """Account one engine step that ended at `engine_at` and was seen at `now` (seconds)."""
        drained = of_batch = seen = 0
        cut = self._computed_very_long
        effort = self.paces.effort.of(self.ledger.short_prefill, self.ledger.attended)
        decoded, large = False, self._few > 0
        some_give_way = of_others = self.ledger.answers != self.ledger.going_first
        part = self.ledger.part
        self.waits.saw_life(now)
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
            seen += 1
            sequence.ticket.last_token_at = now
            self._progress(output)
        if not self.ledger.queued_sequences:
            self.fair.nothing_waits()
        ledger = self.ledger
        answers = ledger.going_first if self._prompt_goes_first else ledger.answers
        prompt_tokens = self.next_step.stepped(
            now=now,
            engine_at=engine_at,
            drained=drained,
            answers=answers,
            queued=self._queued,
            left_out=len(ledger.running) - answers.running,
        )
        self.paces.learn(
            drained=prompt_tokens,
            finished=None if large or ledger.large or self._few else drained,
            decoded=decoded,
            engine_at=engine_at,
            answers=ledger.answers,
            queued=ledger.arrived,
            binding=self._prompts_bind,
            whole=self._in_a_step >= self.config.step_tokens,
            full=self.size.sequences,
            crowded=self._kv_is_short,
            cut=cut,
            first=ledger.going_first,
            left_out=None if some_give_way and seen >= _SLICE else of_others,
            effort=effort,
        )
        self.pacing.stepped(of_batch, ledger.totals[INTERACTIVE].running, now)
        self._release(now)

    def observe_steps(self, outputs: Listed[StepOutput], ends: Listed[float]) -> None:
        """Account steps in a row in which the same answers go on, ended at `ends` (seconds).

        The outputs are of all of them together. The rates learned are those of single steps.
        """
        running, context = len(self.ledger.running), self.ledger.context
        queued = self.ledger.arrived
        for ended in ends[:-1]:
            context += len(outputs)
            self.waits.last_seen_at = ended
            self.paces.learn(
                drained=0,
                finished=0,
                decoded=True,
                engine_at=ended,
                answers=Answers(running, context),
                queued=queued,
                binding=self._prompts_bind,
                whole=self._in_a_step >= self.config.step_tokens,
                full=self.size.sequences,
                crowded=self._kv_is_short,
            )
            interactive = self.ledger.totals[INTERACTIVE].running
            self.pacing.stepped(0, interactive, ended)
        before_last = len(ends) - 1
        if before_last:
            self._go_on(outputs, before_last)
            outputs = [output._replace(tokens=output.tokens - before_last) for output in outputs]
        self.observe_step(outputs, ends[-1], ends[-1])

    def _go_on(self, outputs: Listed[StepOutput], tokens: int) -> None:
        """So many tokens more of each of these running answers."""
        sequences = [output.sequence for output in outputs]
        self.costs.outputs.passed_together([(s.produced, s.produced + tokens) for s in sequences])
        for sequence in sequences:
            self.ledger.produce(sequence, tokens)

    @property
    def _queued(self) -> Queued:
        ledger = self.ledger
        return Queued(
            ledger.in_engine - len(ledger.running),
            ledger.engine_prefill,
            ledger.large,
            ledger.large_tokens,
            cut=bool(ledger.front.in_parts or (ledger.long and not self._few)),
            first=ledger.front.engine_prefill,
            few=self._few,
            times=self.waits.long_times,
            few_times=self.waits.few_times,
        )

    @property
    def _few(self) -> int:
        """Prompt tokens of those who give way that a step computes; 0: as many as there are."""
        return self.waits.few

    @property
    def _computed_very_long(self) -> bool:
        """Whether the step that has ended computed a part of a very long interactive prompt."""
        if self.ledger.front.in_parts:
            return True
        return self.ledger.aside.engine_prefill > 0 and not self.next_step.computes_first

    @property
    def _prompt_goes_first(self) -> bool:
        """Whether the engine has an interactive prompt, to which batch gives way."""
        front = self.ledger.front
        return front.sequences > front.held

    @property
    def _prompts_bind(self) -> bool:
        """Whether it can be prompt tokens that the engine's queue waits for.

        What is held back leaves the engine short, and tells nothing of how fast it drains; of what
        batch has in it, a step computes a part. Nor do a few short prompts on an engine that runs
        nothing tell anything: it waits for them, while they are on their way. A very long prompt
        waits for its part of each step, and what that takes is not the others' pace.
        """
        ledger, few = self.ledger, self._few
        if ledger.front.in_parts:
            return False
        if self._in_a_step >= self.config.step_tokens:
            return True
        if ledger.behind.held or (few and not ledger.front.engine_prefill):
            return False
        return bool(ledger.running) or ledger.large > 0

    @property
    def _in_a_step(self) -> int:
        """Prompt tokens in the engine that steps have to compute, as many at a time as they can."""
        ledger, few = self.ledger, self._few
        if few:
            return ledger.front.engine_prefill + few
        is_held = ledger.behind.held > 0
        return ledger.engine_prefill - (ledger.behind.beyond_a_step(ledger.part) if is_held else 0)

    @property
    def _kv_is_short(self) -> bool:
        """Whether prompts may wait in the engine for KV blocks."""
        return self.ledger.kv_tokens > self.config.kv_tokens

    def _first_token(self, output: StepOutput, now: float) -> int:
        sequence = output.sequence
        uncached = max(sequence.prompt - (output.cached or 0), 1)
        self.ledger.start(sequence)
        # Not as cautiously long as elsewhere: of long answers more would keep the promised pace.
        likely = self.costs.outputs.likely_total(sequence.cap) if sequence.cap else 0.0
        cut = sequence.in_parts
        self.room.pace.began(sequence.prompt, uncached, likely, in_parts=cut)
        ticket = sequence.ticket
        self.fair.started(ticket.tag)
        if ticket.first_token_at is None:
            ticket.first_token_at = now
            waited_s = now - ticket.admitted_at
            if not ticket.answers_give_way:
                if self._tells_of_long(ticket):
                    self.waits.long.came_true(ticket.own_s, self._own_took_s(ticket, now), now)
                else:
                    self.lateness.add(ticket.predicted_s, waited_s, now)
            self.foresight.came_true(ticket, waited_s)
        return uncached

    def _tells_of_long(self, ticket: Ticket) -> bool:
        """Whether it shows how long a very long prompt takes; of several only the first is seen."""
        alone = ticket.cost.sequences == 1
        return alone and ticket.in_parts and self.waits.long.parts(ticket.cost) > 0

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
        stalled_s = self.waits.stalled_s - ticket.stalled_s
        return now - ticket.admitted_at - waited_s - stalled_s

    def _progress(self, output: StepOutput) -> None:
        sequence = output.sequence
        if sequence.state != "running":
            return
        before = sequence.produced
        self.ledger.produce(sequence, output.tokens)
        self.costs.outputs.passed(before, sequence.produced)
        if output.ended:
            self._judge_pace(sequence)
            self._end(sequence, natural=output.natural)

    def _judge_pace(self, sequence: Sequence) -> None:
        """An interactive answer has its last token: at the promised pace, or later."""
        ticket, promised_s = sequence.ticket, self.config.tpot_s
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
        self.room.pace.margin.ended(ticket.admitted_at, ended_at, late=late)

    def end(self, sequence: Sequence, *, natural: bool, now: float) -> None:
        """An answer has ended, by itself (`natural`) or at a limit; learn its length."""
        self._end(sequence, natural=natural)
        self._release(now)

    def _end(self, sequence: Sequence, *, natural: bool) -> None:
        if sequence.state == "running":
            self.costs.outputs.ended(sequence.produced, natural=natural)
            self.room.ended(sequence)
        self.ledger.end(sequence)

    def close(self, ticket: Ticket, now: float) -> None:
        """The request is over, however it ended; release what it still holds."""
        if not ticket.closed:
            self._count_computed(ticket, now)
            hoped = ticket.first_token_at is None and not ticket.answers_give_way
            if hoped and self._tells_of_long(ticket):
                took_s = self._own_took_s(ticket, now) - self.waits.stalled_now_s(now)
                self.waits.long.given_up(ticket.own_s, took_s, now)
            over = ticket.spent_tokens - ticket.cost.tokens
            self.fair.correct(ticket.tenant, ticket.class_name, over, now)
        if ticket.held and not ticket.closed:
            in_turn = not ticket.answers_give_way
            (self.turns.queue_of(ticket) if in_turn else self.pacing.held).remove(ticket)
        self.ledger.close(ticket)
        self._release(now)

    def _count_computed(self, ticket: Ticket, now: float) -> None:
        """What the engine has probably done for answers that end without a token.

        Or whoever leaves just before it would pay for nothing, and keep others waiting all the
        same. Prompts are computed in the order of their tags; in parts, beside each other, from
        when the prediction has them begin.
        """
        left = [s for s in ticket.sequences if s.bound and s.state == "queued"]
        if not left:
            return
        ledger, rate = self.ledger, self.paces.drain_rate
        begun = self.next_step.begun(ledger.engine_prefill, now)
        begun -= ledger.engine_before(ticket.tag)[0]
        if ticket.steps_aside:  # they take turns
            begun = self.next_step.of_those_behind(ledger.engine_prefill, now)
        for sequence in left:
            if not ticket.steps_aside and (ledger.long or not self.paces.law.known):
                own_s = sequence.prefill / rate if rate else 0.0
                begun = (now - ticket.admitted_at - (ticket.predicted_s - own_s)) * rate
            sequence.computed = round(min(max(begun, 0.0), sequence.prefill))
            begun -= sequence.prefill
            self.next_step.left(sequence.prefill)

    def check_integrity(self) -> None:
        """Raise AssertionError when a total or a bound does not hold."""
        self.ledger.check_integrity()
        self.fair.check_integrity()
        self.pacing.check_integrity()
        held = len(self.pacing.held) + self.turns.waiting
        assert held == sum(ticket.held for ticket in self.ledger.tickets)
        assert not held or self.ledger.in_engine, "held, and the engine is idle"
        assert self.paces.prefill_rate.rate >= 0.0

    def __repr__(self) -> str:
        return f"<AdmissionController {self.ledger!r} {self.paces!r} {self.lateness!r}>"


def _take(ticket: Ticket, way: Way) -> None:
    """Its prompts are computed that way."""
    ticket.own_s = way.own_s
    ticket.step_tokens, ticket.half_at = way.step_tokens, way.half_at


def _nothing_late_yet(config: AdmissionConfig) -> Lateness:
    tightest = min(policy.ttft_s for policy in config.classes.values())
    return Lateness(constant_s=_ERRS_BY * tightest, ceiling_s=_LARGEST_CORRECTION * tightest)
