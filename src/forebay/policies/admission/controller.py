"""Admission: refuse what cannot get its first token in time, before it costs anything.

The decision compares a *predicted TTFT* with the class's budget. The prediction has three parts,
each about one thing a request waits for:

- prefill: prompt tokens queued ahead by tag, and its own, over the measured rate at which the
  engine drains queued prompt tokens while it is the tokens (not the slots) that bind;
- slots and KV: when more sequences (or KV tokens) are ahead than the engine holds, the time until
  enough of the running answers have ended, from their expected remaining lengths and the time per
  output token of a full engine that computes no prompts;
- overhead: a bound on how much later than predicted first tokens really come (`error_bound.py`).

The first two add up, for a step takes the time of the one and of the other. Both are longer by what
others will still put ahead (`overtaking.py`).

Everything here is synchronous and pure: `now` comes from the caller's monotonic clock, randomness
from an injected function. The shell (`serving/`) reports what the engine did through `entered`,
`bind`, `observe_step`, `end` and `close`; `feedback.py` learns from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

from forebay.policies.admission.feedback import Feedback
from forebay.policies.admission.long_prompt_queue import LongPromptQueue
from forebay.policies.admission.promises import Confidence, Promises
from forebay.policies.fairness import FairQueue, Flow, HeldQueue
from forebay.policies.forecast import (
    BatchPacing,
    ConcurrencyLimits,
    EngineSize,
    ExpectedTTFT,
    Ledger,
    NextStep,
    Paces,
    Place,
    Prediction,
    Waits,
    Way,
)
from forebay.policies.request import (
    BATCH,
    INTERACTIVE,
    AdmissionConfig,
    Admitted,
    Chunks,
    Cost,
    CostModel,
    Cutting,
    Decision,
    RequestShape,
    Shed,
    ShedReason,
    StepOutput,
    Ticket,
    part_tokens,
)
from forebay.policies.request import Sequence as Answer

_SOONEST_RETRY = 0.25  # of the budget, for which a client is asked to wait at least
_SPENT_BY_RETRY = 2.0 * _SOONEST_RETRY  # at most, mostly: waits are jittered up to twice as long
_MOST_SPENT = 0.75
# Of its budget, that a batch request may be predicted to wait. Interactive requests go before it
# without regard to it, so the rest is for more of these than there were when it was let in.
_BATCH_SHARE = 0.75
_LEAST_WAIT = 0.1  # of the budget, for which a prompt may wait that would be late by itself


class _Request(NamedTuple):
    """A request that is decided on.

    Attributes:
        cost: what it is expected to take.
        flow: its tenant and class.
        tag: the place that it would have.
        way: how its prompts would be computed.
        takes_turns: whether an interactive one would wait for long prompts before it
        (`long_prompt_queue.py`).
        now: seconds.
        retries: how often it has been refused before.
        waited_s: for which its user has waited already.
    """

    cost: Cost
    flow: Flow
    tag: int
    way: Way
    takes_turns: bool
    now: float
    retries: int
    waited_s: float

    @property
    def class_name(self) -> str:
        """Its class."""
        return self.flow[1]


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
        self.confidence = {name: Confidence() for name in config.classes}
        self.next_step = NextStep(config.slots, config.step_tokens, self.paces)
        self.cutting = Cutting(config.step_tokens)
        self.turns = LongPromptQueue(self.cutting, self.ledger, self.next_step)
        self.expected_ttft = ExpectedTTFT(self.ledger, self.next_step)
        self.fair = FairQueue({name: policy.weight for name, policy in config.classes.items()})
        self.size = EngineSize(config.slots, config.kv_tokens, self.ledger)
        self.room = ConcurrencyLimits(config, self.ledger, self.paces, self.fair, self.size)
        self.pacing = BatchPacing(
            config.step_tokens, config.batch_stretch, heeds_marks=config.heeds_marks
        )
        self.waits = Waits(
            config=config,
            costs=cost_model,
            ledger=self.ledger,
            paces=self.paces,
            fair=self.fair,
            size=self.size,
            pacing=self.pacing,
            next_step=self.next_step,
            cutting=self.cutting,
        )
        self.promises = Promises(
            self.size, config.step_tokens, self.ledger, self.paces, self.waits, self.next_step
        )
        self.observer = Feedback(
            config=config,
            costs=cost_model,
            ledger=self.ledger,
            paces=self.paces,
            fair=self.fair,
            size=self.size,
            room=self.room,
            pacing=self.pacing,
            waits=self.waits,
            next_step=self.next_step,
            expected_ttft=self.expected_ttft,
        )
        self.draining = False
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
        self.room.offered((tenant, class_name), cost, now)
        self.confidence[class_name].came(others_wait=self._others_wait(class_name))
        if class_name == INTERACTIVE:
            self.pacing.interactive_came(cost, now, cut=self.cutting.cuts(cost))
        request = self._request(cost, (tenant, class_name), now, retries, waited_s)
        prediction = self._predict(request)
        reason = self._reason_to_shed(request, prediction)
        if reason is not None:
            wait_s = self._time_until_fit(reason, request, prediction)
            return Shed(reason, prediction.total_s, self.config.classes[class_name].ttft_s, wait_s)
        return self._let_in(request, prediction)

    def _request(
        self, cost: Cost, flow: Flow, now: float, retries: int = 0, waited_s: float = 0.0
    ) -> _Request:
        """What there is to know of a request of this flow before it is decided on."""
        way = self.waits.own.way(cost, flow[1], now)
        budget_s = self.config.classes[flow[1]].ttft_s
        return _Request(
            cost=cost,
            flow=flow,
            tag=self.fair.preview(*flow, now),
            way=way,
            takes_turns=self.turns.takes_them(cost, budget_s, way.own_s),
            now=now,
            retries=retries,
            waited_s=waited_s,
        )

    def _let_in(self, request: _Request, prediction: Prediction) -> Admitted:
        """Enter it in the ledger; it is held where others have to go first."""
        cost, (tenant, class_name), now = request.cost, request.flow, request.now
        policy, way, is_batch = self.config.classes[class_name], request.way, class_name == BATCH
        tag = self.fair.tag(tenant, class_name, cost.tokens, now)
        self.size.let_in(cost)
        self.waits.arrivals.add(request.flow, cost, now)
        if not self.cutting.cuts(cost):
            self.waits.own.short.add(("", class_name), cost, now)
        ticket = Ticket(class_name, tag, cost, now, policy.ttft_s, prediction.raw_s, tenant)
        ticket.asked_s = request.waited_s
        _take(ticket, way)
        ticket.ahead_s = prediction.raw_s - prediction.own_s
        ticket.uncut = self.cutting.uncut
        ticket.gives_way, ticket.answers_give_way = way.gives_way, is_batch
        if ticket.gives_way:  # it waits for others, and not they for it
            ticket.grace_s = policy.deadline_s - policy.ttft_s
        if ticket.steps_aside:
            ticket.grace_s = inf
        ticket.held = is_batch or self.turns.waits(ticket, ticket.own_s, now)
        expected_s = self.expected_ttft.of(ticket, prediction, now)
        self.ledger.open(ticket, cost.output_tokens / cost.sequences)
        if is_batch:
            self.pacing.hold(ticket)
            return Admitted(ticket, expected_s, self._release(now))
        self.cutting.came(cost.prefill_per_sequence)
        if ticket.held:
            self.turns.queue_of(ticket).add(ticket)
        elif ticket.steps_aside:
            self.pacing.steps_aside(ticket)
        return Admitted(ticket, expected_s, () if ticket.held else (ticket,))

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
        return self._predict(self._request(cost, (tenant, class_name), now))

    def _predict(self, request: _Request) -> Prediction:
        return self.waits.predict(
            request.cost,
            request.flow,
            request.tag,
            request.way,
            takes_turns=request.takes_turns or request.class_name == BATCH,
            confidence=self.confidence[request.class_name].share,
            now=request.now,
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

    def _reason_to_shed(self, request: _Request, prediction: Prediction) -> ShedReason | None:
        cost, flow, class_name, now = request.cost, request.flow, request.class_name, request.now
        if self.draining:
            return "draining"
        if self.ledger.idle:
            hopeless = self._is_passed_by_too_many(request, prediction)
            return "ttft_budget" if hopeless else None
        if self._over_the_bound(cost, class_name) > 0:
            return "queue_full"
        if prediction.total_s > self._allowance(request, prediction) - request.waited_s:
            return "ttft_budget"
        if class_name != BATCH:  # which waits for these at the gate
            if self.room.has_its_part(flow, cost, self.room.parts(now)):
                return "fair_share"
            # Who has not its part yet does not pay for those who came before it with theirs.
            if self.room.too_many(cost) > 0 and not self.room.is_owed(cost, flow, now):
                return "tpot"
        if request.way.steps_aside:
            return None  # it makes nobody late
        if self.promises.broken_by(cost, request.tag, now, takes_turns=request.takes_turns):
            return "promise_kept"
        return None

    def _is_passed_by_too_many(self, request: _Request, prediction: Prediction) -> bool:
        """Whether a request would miss its deadline on an engine that is idle for a moment only.

        Where nobody else comes it is let in: to refuse on an idle engine would be for ever.
        """
        # What traffic did to such prompts of late is not what this little will do.
        hurried = self.waits.own.hurried(request.cost, request.now)
        unhurried_s = prediction.total_s - prediction.own_s * hurried
        if unhurried_s <= self.config.classes[request.class_name].deadline_s:
            return False
        return self.waits.own.passing(prediction.own_s, request.now) > self.ledger.part

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

    def _allowance(self, request: _Request, prediction: Prediction) -> float:
        """Longest prediction that is admitted, in seconds.

        The user of a request that comes again has waited already: what is left of the budget is
        less. Beside others who could still be in time from their first attempt on, it would be
        late and have made one of them late.

        A prompt whose own computation leaves little of the budget could rarely or never meet it;
        it is judged by the wait in front of it, so that long prompts stay servable. But what would
        still have no first token at its deadline is aborted then, and never begun: the time it took
        would be lost to all. What gives way for being that long makes nobody late: it may wait.
        """
        class_name = request.class_name
        policy, confidence = self.config.classes[class_name], self.confidence[class_name].share
        if request.way.steps_aside:
            return policy.deadline_s * (1.0 - self.config.margin * confidence)
        spent = min(_SPENT_BY_RETRY * request.retries, _MOST_SPENT)
        budget = (
            policy.ttft_s * (1.0 - self.config.margin * confidence) * (1.0 - spent * confidence)
        )
        if class_name == BATCH:
            budget *= _BATCH_SHARE
        servable = _LEAST_WAIT * budget + prediction.own_s + prediction.overhead_s
        return min(max(budget, servable), policy.deadline_s)

    def _time_until_fit(
        self, reason: ShedReason, request: _Request, prediction: Prediction
    ) -> float:
        """Seconds until the same request would fit, jittered."""
        cost, class_name = request.cost, request.class_name
        policy = self.config.classes[class_name]
        share = _BATCH_SHARE if class_name == BATCH else 1.0
        promised_s = policy.deadline_s if request.way.steps_aside else share * policy.ttft_s
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

    def _release(self, now: float) -> list[Ticket]:
        """Those held at the gate that may go to the engine now; they are held no longer."""
        if not (self.turns.waiting or len(self.pacing.held)):
            return []  # as at nearly every step
        return [
            *self._release_in_turn(self.turns.held, now),
            *self._release_batch(now),
            # With batch of earlier tags before it.
            *self._release_in_turn(self.turns.held_aside, now),
        ]

    def _release_in_turn(self, held: HeldQueue, now: float) -> Iterator[Ticket]:
        while (ticket := held.first()) is not None and self.turns.may_enter(ticket, now):
            held.remove(ticket)
            if ticket.steps_aside:
                self._look_again(ticket, now)
            self.ledger.release(ticket)
            yield ticket

    def _release_batch(self, now: float) -> Iterator[Ticket]:
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
                self.ledger.release(ticket)
                yield ticket
            else:
                return

    def _look_again(self, ticket: Ticket, now: float) -> None:
        """What comes of others has changed while a very long prompt was held at the gate."""
        deadline_s = self.config.classes[ticket.class_name].deadline_s
        left_s = ticket.admitted_at - ticket.asked_s + deadline_s - now
        way = self.waits.own.way(ticket.cost, ticket.class_name, now, left_s)
        if way.steps_aside:
            _take(ticket, way)
        self.pacing.steps_aside(ticket)

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
        self.waits.forget()
        self.cutting.forget()
        self.confidence = {name: Confidence() for name in self.config.classes}
        self.expected_ttft.forget()
        self.pacing.forget()
        self.room.forget()

    def bind(
        self, ticket: Ticket, prompt_tokens: int, output_cap: int, chunks: Chunks = ()
    ) -> Answer:
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
        self.observer.entered(ticket, now)

    def observe_step(
        self, outputs: Iterable[StepOutput], engine_at: float, now: float
    ) -> list[Ticket]:
        """Account one engine step that ended at `engine_at` and was seen at `now` (seconds).

        Returns those that were held and may go to the engine now, as the methods below do.
        """
        self.observer.step(outputs, engine_at, now)
        return self._release(now)

    def observe_steps(self, outputs: Sequence[StepOutput], ends: Sequence[float]) -> list[Ticket]:
        """Account steps in a row in which the same answers go on, ended at `ends` (seconds).

        The outputs are of all of them together. The rates learned are those of single steps.
        """
        self.observer.steps(outputs, ends)
        return self._release(ends[-1])

    def end(self, sequence: Answer, *, natural: bool, now: float) -> list[Ticket]:
        """An answer has ended where no step shows it: at a stop string (`natural`), or failed."""
        self.observer.end(sequence, natural=natural)
        return self._release(now)

    def close(self, ticket: Ticket, now: float) -> list[Ticket]:
        """The request is over, however it ended; what it still holds is free."""
        if not ticket.closed:
            self.observer.leaves(ticket, now)
        if ticket.held and not ticket.closed:
            in_turn = not ticket.answers_give_way
            (self.turns.queue_of(ticket) if in_turn else self.pacing.held).remove(ticket)
        self.ledger.close(ticket)
        return self._release(now)

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
        return f"<AdmissionController {self.ledger!r} {self.paces!r} {self.waits.lateness!r}>"


def _take(ticket: Ticket, way: Way) -> None:
    """Its prompts are computed that way."""
    ticket.own_s = way.own_s
    ticket.step_tokens, ticket.half_at = way.step_tokens, way.half_at
