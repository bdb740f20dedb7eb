"""Admission: refuse what cannot get its first token in time, before it costs anything.

The decision compares a *predicted TTFT* with the class's budget. The prediction has three parts,
each about one thing a request waits for:

- prefill: prompt tokens queued ahead by tag, and its own, over the measured rate at which the
  engine drains queued prompt tokens while it is the tokens (not the slots) that bind;
- slots and KV: when more sequences (or KV tokens) are ahead than the engine holds, the time until
  enough of the running answers have ended, from their expected remaining lengths and the time per
  output token of a full engine that computes no prompts;
- overhead: an upper quantile of how much later than predicted first tokens really came.

The first two add up, for a step takes the time of the one and of the other. Both are longer by what
others will still put ahead (`overtaking.py`).

Everything here is synchronous and pure: `now` comes from the caller's monotonic clock, randomness
from an injected function. The shell (`serving/`) reports what the engine did through `bind`,
`observe_step` and `close`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import Literal, NamedTuple

from forebay.policies.cost import Cost, CostModel, RequestShape
from forebay.policies.expectation import Expectation
from forebay.policies.fairness import FairQueue
from forebay.policies.ledger import Ledger, Sequence, Ticket
from forebay.policies.overtaking import Arrivals, Flow, prolonged, rivals
from forebay.policies.paces import Paces
from forebay.policies.prediction import Prediction, Releases, Wait, expected_releases
from forebay.policies.rates import TrackedQuantile
from forebay.policies.slots import Claim, most_held

ShedReason = Literal[
    "ttft_budget",
    "queue_full",
    "batch_share",
    "fair_share",
    "promise_kept",
    "tpot",
    "quota",
    "draining",
]

INTERACTIVE, BATCH = "interactive", "batch"
# The correction may take this share of the tightest budget. A larger error is the model's, and
# would be answered by refusing nearly everything for as long as it is remembered.
_LARGEST_CORRECTION = 0.3
_DEMAND_S = 2.0  # half-life of what flows are seen to ask for
_KEPT_FROM_BATCH = 8  # one slot in so many, for an interactive request that comes out of the blue
_CROWDED = 0.5  # of the slots in use, below which nobody needs to be held back
_STALLED_STEPS = 5.0  # steps of the usual length without a sign of life, beyond which it stalls


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """Promise for one class: TTFT budget and abort deadline, in seconds; its scheduling weight."""

    ttft_s: float
    deadline_s: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """Fixed limits of one replica.

    Attributes:
        classes: the promise for each class, by name.
        slots: sequences the engine runs at once (`max_num_seqs`).
        kv_tokens: tokens that the engine's KV blocks hold.
        step_tokens: most prompt tokens the engine computes in one step.
        margin: share of the budget kept for what the gate cannot see (proxy, router, network).
        tpot_s: most seconds per output token; sequences at once are bounded so that it is kept.
            None sets no such bound.
        max_queued_tokens: hard bound on queued prompt tokens; None derives it from the measured
            rate and the largest budget.
    """

    classes: Mapping[str, ClassPolicy]
    slots: int
    kv_tokens: int
    step_tokens: int
    margin: float = 0.3
    tpot_s: float | None = None
    max_queued_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may go to the engine, under this ticket; its expected TTFT in seconds."""

    ticket: Ticket
    predicted_s: float


@dataclass(frozen=True, slots=True)
class Shed:
    """The request is refused: why, what was predicted, and when it would fit (seconds)."""

    reason: ShedReason
    predicted_s: float
    budget_s: float
    retry_after_s: float


Decision = Admitted | Shed


class StepOutput(NamedTuple):
    """What one engine step did for one sequence. A tuple, since each token makes one.

    Attributes:
        tokens: tokens generated in this step.
        cached: prompt tokens that came from the prefix cache; None unless this is its first step.
        ended: whether the sequence has finished.
        natural: whether it finished by itself (a stop), not by a limit.
    """

    sequence: Sequence
    tokens: int
    cached: int | None = None
    ended: bool = False
    natural: bool = False


class AdmissionController:
    """Admission state of one replica."""

    def __init__(
        self, config: AdmissionConfig, cost_model: CostModel, jitter: Callable[[], float]
    ) -> None:
        """Start with nothing queued and rates unknown; `jitter` returns values in [0, 1)."""
        self.config = config
        self.costs = cost_model
        self.ledger = Ledger(tuple(config.classes))
        self.paces = Paces(config.slots, config.step_tokens)
        self.overhead = _no_errors_yet(config)
        self.expectation = Expectation()
        self.fair = FairQueue({name: policy.weight for name, policy in config.classes.items()})
        self.arrivals = Arrivals()  # admitted
        self.demand = Arrivals(_DEMAND_S)  # offered
        self.draining = False
        self._jitter = jitter
        self._last_seen_at: float | None = None  # on the caller's clock
        self._curve: Releases | None = None
        self._curve_of = -1

    # --- deciding -------------------------------------------------------------------------

    def decide(self, cost: Cost, class_name: str, now: float, tenant: str = "") -> Decision:
        """Admit (and enter in the ledger) or shed a request that arrived at `now`."""
        policy = self.config.classes[class_name]
        self.demand.add((tenant, class_name), cost, now)
        place = self.fair.preview(tenant, class_name, now)
        prediction = self._predict(cost, (tenant, class_name), place, now)
        reason = self._reason_to_shed(cost, (tenant, class_name), place, prediction, now)
        if reason is not None:
            wait = self._time_until_fit(reason, cost, prediction, policy)
            return Shed(reason, prediction.total_s, policy.ttft_s, wait)
        if self.ledger.idle:
            self._last_seen_at = now  # an engine without work is silent and does not stall
        tag = self.fair.tag(tenant, class_name, cost.tokens, now)
        self.arrivals.add((tenant, class_name), cost, now)
        ticket = Ticket(class_name, tag, cost, now, policy.ttft_s, prediction.raw_s, tenant)
        self.ledger.open(ticket, cost.output_tokens / cost.sequences)
        return Admitted(ticket, self.expectation.of(prediction.raw_s) + prediction.stalled_s)

    def predict(self, cost: Cost, class_name: str, now: float, tenant: str = "") -> Prediction:
        """Seconds until a request arriving at `now` would see its first token."""
        place = self.fair.preview(tenant, class_name, now)
        return self._predict(cost, (tenant, class_name), place, now)

    def predict_typical(self, class_name: str, now: float) -> Prediction:
        """What the tenant that asks for most would wait with a prompt of a single token.

        One that asks for nothing would go before all that wait, and so say nothing of them.
        """
        small = self.costs.price(RequestShape(prompt_bytes=0, prompt_ids=1, max_tokens=1))
        return self.predict(small, class_name, now, self.arrivals.busiest(class_name))

    def _predict(self, cost: Cost, flow: Flow, tag: int, now: float) -> Prediction:
        ahead_tokens, ahead_sequences = self._ahead_of(tag)
        ahead_s = self.paces.prompts_s(ahead_tokens)
        release_s = self._release_s(cost, ahead_sequences)
        if (ahead_s or release_s) and self.ledger.queued_sequences:
            tokens, sequences = self._overtaking(cost, flow, tag, ahead_s, release_s, now)
            ahead_s = self.paces.prompts_s(ahead_tokens + tokens)
            release_s = self._release_s(cost, ahead_sequences + round(sequences))
        own_s = self.paces.prompts_s(cost.prefill_tokens)
        return Prediction(ahead_s, own_s, release_s, self.overhead.at(now), self._stalled_s(now))

    def _overtaking(
        self, cost: Cost, flow: Flow, tag: int, ahead_s: float, release_s: float, now: float
    ) -> tuple[float, float]:
        """(Prompt tokens, sequences) that others will still put ahead while a request waits."""
        token_s = self.paces.prompts_s(1)
        slot_s = self._seconds_per_slot(cost) if release_s else 0.0
        others = rivals(self.fair, self.arrivals, flow, tag, now)
        wait_s = prolonged(
            ahead_s + release_s,
            [
                (until_s, prefill * token_s + sequences * slot_s)
                for until_s, prefill, sequences in others
            ],
        )
        tokens = sum([prefill * min(until_s, wait_s) for until_s, prefill, _ in others])
        return tokens, sum([count * min(until_s, wait_s) for until_s, _, count in others])

    def _release_s(self, cost: Cost, ahead_sequences: int) -> float:
        """Seconds until slots and KV are free for a request behind so many sequences."""
        needs = Wait(
            slots=len(self.ledger.running)
            + ahead_sequences
            + min(cost.sequences, self.config.slots)
            - self.config.slots,
            kv_tokens=self.ledger.kv_tokens + cost.kv_tokens - self.config.kv_tokens,
        )
        if needs.slots <= 0 and needs.kv_tokens <= 0:
            return 0.0
        return self._releases(cost).wait(needs) * self.paces.seconds_per_token_when_full

    def _seconds_per_slot(self, cost: Cost) -> float:
        """Seconds between two slots that a full engine gives back, by Little's law."""
        answer = self._releases(cost).answer_tokens
        return answer / self.config.slots * self.paces.seconds_per_token_when_full

    def _stalled_s(self, now: float) -> float:
        """Seconds for which an engine with work has shown no sign of life, beyond the usual.

        A prompt shows none until all of it is computed. While others run, their tokens come with
        each of its steps.
        """
        if self._last_seen_at is None or self.ledger.idle or not self.paces.seconds_per_token:
            return 0.0
        most = self.config.step_tokens if self.ledger.running else self.costs.context_tokens
        prompts_s = self.paces.prompts_s(min(self.ledger.queued_prefill, most))
        usual_s = _STALLED_STEPS * self.paces.seconds_per_token_when_full + prompts_s
        return max(now - self._last_seen_at - usual_s, 0.0)

    @property
    def queue_bound(self) -> float:
        """Hard bound on queued prompt tokens: set, or what drains within the largest budget."""
        if self.config.max_queued_tokens is not None:
            return float(self.config.max_queued_tokens)
        if not self.paces.prefill_rate.known:
            return inf
        return self.paces.prefill_rate.rate * max(p.ttft_s for p in self.config.classes.values())

    def _ahead_of(self, tag: int) -> tuple[int, int]:
        """Queued (prompt tokens, sequences) that the engine serves before an arrival of this tag.

        A prompt behind it that is being computed keeps its place in the step's token budget.
        """
        tokens, sequences = self.ledger.order.before(tag)
        behind = self.ledger.queued_prefill - tokens
        if behind:
            tokens += min(behind, self.config.step_tokens)
            sequences += 1
        return tokens, sequences

    def _releases(self, cost: Cost) -> Releases:
        """How slots and KV come free; computed once for all arrivals between two engine steps."""
        if self._curve is None or self._curve_of != self.ledger.changes or not self.ledger.running:
            self._curve = expected_releases(
                self.ledger.running,
                self.costs.outputs,
                answer_tokens=cost.output_tokens / cost.sequences,
                capacity=self.config.slots,
            )
            self._curve_of = self.ledger.changes
        return self._curve

    def _reason_to_shed(
        self, cost: Cost, flow: Flow, tag: int, prediction: Prediction, now: float
    ) -> ShedReason | None:
        class_name = flow[1]
        if self.draining:
            return "draining"
        if self.ledger.idle:
            return None  # refusing on an idle engine would refuse for ever
        if self.ledger.queued_prefill + cost.prefill_tokens > self.queue_bound:
            return "queue_full"
        if prediction.total_s > self._allowance(class_name, prediction):
            return "ttft_budget"
        if self.ledger.held[flow] + cost.sequences > self._most_held(flow, now):
            return "batch_share" if class_name == BATCH else "fair_share"
        if self._slows_down_too_much(cost):
            return "tpot"
        if self._breaks_a_promise(cost, tag, now):
            return "promise_kept"
        return None

    def _allowance(self, class_name: str, prediction: Prediction) -> float:
        """Longest prediction that is admitted, in seconds.

        A prompt whose own computation takes more than half of the budget could rarely or never
        meet it; it is judged by the wait in front of it, so that long prompts stay servable.
        """
        budget = self.config.classes[class_name].ttft_s * (1.0 - self.config.margin)
        return max(budget, budget / 2 + prediction.own_s + prediction.overhead_s)

    def _most_held(self, flow: Flow, now: float) -> float:
        """Sequences that a flow may have at once; at least one request is always let in."""
        if not self.ledger.held[flow]:
            return inf
        slots = self._slots
        most = float(slots - max(slots // _KEPT_FROM_BATCH, 1)) if flow[1] == BATCH else inf
        outputs = self.demand.outputs(now)
        in_flight = len(self.ledger.running) + self.ledger.queued_sequences
        if len(outputs) < 2 or in_flight < _CROWDED * slots:
            return most
        flows = [other for other, _ in outputs]
        # With prompts in between, tokens come more slowly than a full engine makes them alone.
        seconds = max(self.paces.seconds_per_token, self.paces.seconds_per_token_when_full)
        claims = [
            Claim(weight, tokens * seconds)
            for weight, (_, tokens) in zip(self.fair.weights_of(flows), outputs, strict=True)
        ]
        place = flows.index(flow)
        return min(most, most_held(claims[place], claims[:place] + claims[place + 1 :], slots))

    def _slows_down_too_much(self, cost: Cost) -> bool:
        """Whether so many sequences at once would take longer over each token than promised."""
        return self._at_once(cost) > self._most_at_once

    def _at_once(self, cost: Cost) -> int:
        """Sequences that the engine would run at once with these too."""
        in_flight = len(self.ledger.running) + self.ledger.queued_sequences
        return min(in_flight + cost.sequences, self.config.slots)

    @property
    def _slots(self) -> int:
        """Sequences at once that flows share: the engine's, or what the promised pace allows."""
        return int(min(self.config.slots, self._most_at_once))

    @property
    def _most_at_once(self) -> float:
        """Sequences at once within which tokens come at the promised pace; at least 1."""
        if self.config.tpot_s is None:
            return inf
        return max(self.paces.tpot.sequences_within(self.config.tpot_s), 1.0)

    @property
    def sequences_in_time(self) -> float:
        """Sequences at once that the engine has slots for and keeps the promised pace with."""
        return min(float(self.config.slots), self._most_at_once)

    def _breaks_a_promise(self, cost: Cost, tag: int, now: float) -> bool:
        """Whether an arrival of this tag would push one that it overtakes past its budget.

        One that is late already is not saved by refusing others.
        """
        rate, order = self.paces.prefill_rate.rate, self.ledger.order
        if not rate or order.before(tag)[1] == len(order):
            return False
        free = self.config.slots - len(self.ledger.running)
        slot_s = self._seconds_per_slot(cost) if len(order) + cost.sequences > free else 0.0

        def late(tokens: int, sequences: int, due: float) -> bool:
            return tokens / rate + max(sequences - free, 0) * slot_s > due - now

        def late_then(tokens: int, sequences: int, due: float) -> bool:
            return late(tokens + cost.prefill_tokens, sequences + cost.sequences, due)

        return order.makes_late(tag, late, late_then)

    def _time_until_fit(
        self, reason: ShedReason, cost: Cost, prediction: Prediction, policy: ClassPolicy
    ) -> float:
        """Seconds until the same request would fit, jittered."""
        excess = prediction.total_s - policy.ttft_s * (1.0 - self.config.margin)
        if reason == "queue_full" and self.paces.prefill_rate.known:
            over = self.ledger.queued_prefill + cost.prefill_tokens - self.queue_bound
            excess = max(excess, over / self.paces.prefill_rate.rate)
        elif reason == "draining":
            excess = policy.ttft_s
        elif reason == "promise_kept":
            excess = self._backlog_s(cost)  # then nobody is left to be overtaken
        elif reason == "tpot":
            excess = self._ends_s(cost, self._at_once(cost) - self._most_at_once)
        elif reason in ("batch_share", "fair_share"):
            excess = self._ends_s(cost, cost.sequences)
        # An overloaded replica frees room at the pace of its budget: a client back sooner than
        # a quarter of it would mostly be refused again.
        floor = policy.ttft_s / 4
        return self.jittered(max(excess, floor))

    def _backlog_s(self, cost: Cost) -> float:
        """Seconds until everybody who is queued now has a first token."""
        over = len(self.ledger.running) + self.ledger.queued_sequences - self.config.slots
        slots_s = max(over, 0) * self._seconds_per_slot(cost)
        return slots_s + self.paces.prompts_s(self.ledger.queued_prefill)

    def _ends_s(self, cost: Cost, sequences: float) -> float:
        """Seconds until so many of the running answers have ended."""
        needs = Wait(slots=ceil(sequences), kv_tokens=0)
        return self._releases(cost).wait(needs) * self.paces.seconds_per_token_when_full

    def jittered(self, seconds: float) -> float:
        """Up to twice as long, so that clients who obey do not come back in a wave."""
        return seconds * (1.0 + self._jitter())

    # --- learning -------------------------------------------------------------------------

    def forget_errors(self) -> None:
        """What was predicted so far was predicted without knowing the engine."""
        self.overhead = _no_errors_yet(self.config)
        self.expectation = Expectation()

    def bind(self, ticket: Ticket, prompt_tokens: int, output_cap: int) -> Sequence:
        """The engine received one sequence of a ticket: `prompt_tokens` are exact."""
        expected = self.costs.outputs.expected_total(0, output_cap) if output_cap else 0.0
        sequence = ticket.next_unbound()
        if sequence is None:
            return self.ledger.add_sequence(ticket, prompt_tokens, output_cap, expected)
        self.ledger.bind(sequence, prompt_tokens, output_cap, expected)
        return sequence

    def observe_step(self, outputs: Iterable[StepOutput], engine_at: float, now: float) -> None:
        """Account one engine step that ended at `engine_at` and was seen at `now` (seconds)."""
        drained = 0
        decoded = False
        self._last_seen_at = now
        for output in outputs:
            sequence = output.sequence
            if sequence.state == "queued":
                drained += self._first_token(output, now)
            elif sequence.state == "running":
                decoded = True
            sequence.ticket.last_token_at = now
            self._progress(output)
        if not self.ledger.queued_sequences:
            self.fair.nothing_waits()
        self.paces.learn(
            drained=drained,
            decoded=decoded,
            engine_at=engine_at,
            running=len(self.ledger.running),
            queued=self.ledger.queued_sequences,
        )

    def _first_token(self, output: StepOutput, now: float) -> int:
        sequence = output.sequence
        uncached = max(sequence.prompt - (output.cached or 0), 1)
        self.ledger.start(sequence)
        ticket = sequence.ticket
        self.fair.started(ticket.tag)
        if ticket.first_token_at is None:
            ticket.first_token_at = now
            waited_s = now - ticket.admitted_at
            self.overhead.observe(waited_s - ticket.predicted_s, now)
            self.expectation.add(ticket.predicted_s, waited_s)
        return uncached

    def _progress(self, output: StepOutput) -> None:
        sequence = output.sequence
        if sequence.state != "running":
            return
        before = sequence.produced
        self.ledger.produce(sequence, output.tokens)
        self.costs.outputs.passed(before, sequence.produced)
        if output.ended:
            self.end(sequence, natural=output.natural)

    def end(self, sequence: Sequence, *, natural: bool) -> None:
        """An answer has ended, by itself (`natural`) or at a limit; learn its length."""
        if sequence.state == "running":
            self.costs.outputs.ended(sequence.produced, natural=natural)
        self.ledger.end(sequence)

    def close(self, ticket: Ticket, now: float) -> None:
        """The request is over, however it ended; release what it still holds."""
        if not ticket.closed:
            over = ticket.used_tokens - ticket.cost.tokens
            self.fair.correct(ticket.tenant, ticket.class_name, over, now)
        self.ledger.close(ticket)

    def check_integrity(self) -> None:
        """Raise AssertionError when a total or a bound does not hold."""
        self.ledger.check_integrity()
        self.fair.check_integrity()
        assert self.paces.prefill_rate.rate >= 0.0
        assert 0.0 <= self.overhead.value <= self.overhead.ceiling

    def __repr__(self) -> str:
        overhead_ms = self.overhead.value * 1e3
        return f"<AdmissionController {self.ledger!r} {self.paces!r} overhead={overhead_ms:.0f}ms>"


def _no_errors_yet(config: AdmissionConfig) -> TrackedQuantile:
    tightest = min(policy.ttft_s for policy in config.classes.values())
    return TrackedQuantile(
        quantile=0.9,
        step=tightest / 50,
        ceiling=tightest * _LARGEST_CORRECTION,
        half_life_s=10.0,
        value=tightest / 50,
    )
