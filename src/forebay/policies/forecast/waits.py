"""What a request waits for until its first token, from the state of one replica.

`waiting_time.py` says what the parts mean and how slots come free; this module gathers them:
prompts and sequences ahead by tag, those that others will still put there, slots, the gate, and a
silent engine.
"""

from __future__ import annotations

from math import ceil, inf

from forebay.policies.fairness import Arrivals, FairQueue, Flow, Rival, prolonged, rivals
from forebay.policies.forecast.batch_pacing import BatchPacing
from forebay.policies.forecast.concurrency_limits import EngineSize
from forebay.policies.forecast.error_bound import nothing_late_yet
from forebay.policies.forecast.ledger import Ledger
from forebay.policies.forecast.next_step import NextStep
from forebay.policies.forecast.own_time import OwnTime, Way
from forebay.policies.forecast.paces import Paces
from forebay.policies.forecast.waiting_time import Prediction, ReleaseCurve, Releases, Wait
from forebay.policies.request import BATCH, AdmissionConfig, Cost, CostModel, Cutting

_STALLED_STEPS = 5.0  # steps of the usual length without a sign of life, beyond which it stalls


class Waits:
    """Predicts waits. Reads the state that it is given, and changes none of it.

    Attributes:
        arrivals: what flows were admitted for lately.
        own: how a request's own prompts are computed, and how long that takes.
        lateness: how much later than predicted first tokens come.
        last_seen_at: when the engine gave its last sign of life, on the caller's clock.
        stalled_s: for how long it gave none where it should have, in all.
    """

    def __init__(
        self,
        config: AdmissionConfig,
        costs: CostModel,
        ledger: Ledger,
        paces: Paces,
        fair: FairQueue,
        size: EngineSize,
        pacing: BatchPacing,
        next_step: NextStep,
        cutting: Cutting,
    ) -> None:
        """See `AdmissionController` for what these are."""
        self.config = config
        self.costs = costs
        self.ledger = ledger
        self.paces = paces
        self.fair = fair
        self.size = size
        self.pacing = pacing
        self.next_step = next_step
        self.own = OwnTime(config, ledger, paces, size, pacing, cutting)
        self.last_seen_at: float | None = None
        self.stalled_s = 0.0
        self._curve = ReleaseCurve(ledger, costs.outputs, config.slots, config.kv_tokens)
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic."""
        self.arrivals = Arrivals()
        self.own.forget()
        tightest_s = min(policy.ttft_s for policy in self.config.classes.values())
        self.lateness = nothing_late_yet(tightest_s)

    def predict(
        self,
        cost: Cost,
        flow: Flow,
        tag: int,
        way: Way,
        *,
        takes_turns: bool,
        confidence: float,
        now: float,
    ) -> Prediction:
        """What a request of this flow and tag waits for.

        Args:
            cost: the request's.
            flow: its tenant and class.
            tag: its place.
            way: how its prompts are computed.
            takes_turns: whether it waits for long prompts before it (`long_prompt_queue.py`).
            confidence: how surely so late at most; see `ErrorBound.of`.
            now: seconds.
        """
        own_s = way.own_s * self.own.times(cost, now)
        if way.steps_aside:
            ahead_s, release_s = self._for_who_steps_aside(cost, tag, own_s, now)
        else:
            ahead_s, release_s = self._ahead_s(cost, flow, tag, takes_turns=takes_turns, now=now)
        overhead_s = self.lateness.of(ahead_s + release_s + own_s, now, confidence)
        return Prediction(ahead_s, own_s, release_s, overhead_s, self.stalled_now_s(now))

    def _for_who_steps_aside(
        self, cost: Cost, tag: int, own_s: float, now: float
    ) -> tuple[float, float]:
        """Seconds (until those before it are computed, until slots and KV are free).

        Those are computed as it will be. How much comes of others is in what it takes.
        """
        ledger = self.ledger
        computed = self.next_step.of_those_behind(ledger.engine_prefill, now)
        left = max(ledger.behind.engine_prefill - computed, 0.0)
        tokens = left + ledger.aside.held_prefill
        release_s = self._release_s(cost, tag, ledger.order.before(tag)[1])
        return tokens * own_s / max(cost.prefill_tokens, 1), release_s

    def _ahead_s(
        self, cost: Cost, flow: Flow, tag: int, *, takes_turns: bool, now: float
    ) -> tuple[float, float]:
        """The same for anybody else."""
        ahead_tokens, ahead_sequences = self._ahead_of(tag, flow[1], now)
        if self.ledger.long and not takes_turns:
            ahead_tokens = min(ahead_tokens, self._ahead_beside(cost, tag, now))
        token_s = self._prompts_s(1)
        ahead_s = ahead_tokens * token_s
        release_s = self._release_s(cost, tag, ahead_sequences)
        waits = (ahead_s or release_s) and self.ledger.queued_sequences
        others = rivals(self.fair, self.arrivals, flow, tag, now) if waits else []
        if others:
            tokens, sequences = self._overtaking(others, cost, token_s, ahead_s, release_s)
            ahead_s = (ahead_tokens + tokens) * token_s
            release_s = self._release_s(cost, tag, ahead_sequences, round(sequences))
        if flow[1] == BATCH:
            entered_s = self.pacing.wait_s(self.ledger.at_gate.before(tag)[0])
            ahead_s = max(ahead_s, entered_s - release_s)
        return ahead_s, release_s

    def _overtaking(
        self, others: list[Rival], cost: Cost, token_s: float, ahead_s: float, release_s: float
    ) -> tuple[float, float]:
        """(Prompt tokens, sequences) that others will still put ahead while a request waits."""
        slot_s = self.seconds_per_slot(cost) if release_s else 0.0
        wait_s = prolonged(
            ahead_s + release_s,
            [
                (until_s, prefill * token_s + sequences * slot_s)
                for until_s, prefill, sequences in others
            ],
        )
        tokens = sum([prefill * min(until_s, wait_s) for until_s, prefill, _ in others])
        return tokens, sum([count * min(until_s, wait_s) for until_s, _, count in others])

    def _release_s(self, cost: Cost, tag: int, queued: int, overtaking: int = 0) -> float:
        """Seconds until slots and KV are free for a request of this tag.

        Args:
            cost: the request's.
            tag: its place.
            queued: sequences before it in the queue.
            overtaking: those that will still go before it.
        """
        slots, ledger = self.config.slots, self.ledger
        at_once = len(ledger.running) + queued + overtaking + min(cost.sequences, slots)
        kv_tokens = ledger.kv_beside(cost) + round(overtaking * self.size.footprint)
        over = ledger.kv_tokens + kv_tokens - self.config.kv_tokens
        if over > 0:  # who is behind it in the queue takes nothing from it
            over = ledger.kv_before(tag) + kv_tokens - self.config.kv_tokens
        if at_once <= slots and over <= 0:
            return 0.0
        releases = self._releases(cost, kv=over > 0)
        wait = Wait(slots=at_once - slots, kv_tokens=over)
        return releases.wait(wait) * self.paces.seconds_per_token_when_full

    def seconds_per_slot(self, cost: Cost) -> float:
        """Seconds until a full engine has room for one more, by Little's law."""
        answer = self._releases(cost).answer_tokens
        return answer / self.size.sequences * self.paces.seconds_per_token_when_full

    def stalled_now_s(self, now: float) -> float:
        """Seconds for which an engine with work has shown no sign of life, beyond the usual.

        A prompt shows none until all of it is computed. While others run, their tokens come with
        each of its steps.
        """
        if self.last_seen_at is None or not self.paces.seconds_per_token:
            return 0.0
        if not self.ledger.engine_has_work:
            return 0.0
        usual_s = _STALLED_STEPS * self.paces.seconds_per_token_when_full
        silent_s = now - self.last_seen_at - usual_s
        return max(silent_s - self._prompts_unseen_s, 0.0) if silent_s > 0.0 else 0.0

    @property
    def _prompts_unseen_s(self) -> float:
        """Seconds for which prompts may be computed without a sign of life."""
        ledger, few = self.ledger, self.few
        if ledger.running or not few:
            most = self.config.step_tokens if ledger.running else self.costs.context_tokens
            return self._prompts_s(min(ledger.engine_prefill, most))
        tokens = min(ledger.engine_prefill, self.costs.context_tokens)
        limited_s = self.own.limited_s(few, self.few_times)
        return limited_s + self.paces.prompts_s(tokens) * self.own.long_times

    def saw_life(self, now: float) -> None:
        """The engine gave a sign of it."""
        self.stalled_s += self.stalled_now_s(now)
        self.last_seen_at = now

    @property
    def few(self) -> int:
        """Prompt tokens of those who give way that a step computes; 0: as many as there are."""
        queued = self.ledger.behind.engine_prefill  # mostly none, and each step asks often
        return self.pacing.few(queued, self.next_step.of_others) if queued else 0

    @property
    def few_times(self) -> float | None:
        """How many times as long as others' those tokens take; None: as all of their prompt."""
        return self.pacing.slower(self.next_step.of_others) if self.few else None

    def _ahead_of(self, tag: int, class_name: str, now: float) -> tuple[float, int]:
        """Queued (prompt tokens, sequences) that are served before an arrival of this tag.

        A prompt behind it that is being computed keeps its place in the steps' token budget, but
        for those who give way to others after the step that runs, as very long ones do wherever
        they stand; what is held at the gate is not computed. What the engine has computed of them
        is not waited for.
        """
        ledger = self.ledger
        tokens, sequences = ledger.order.before(tag)
        in_engine = tokens - ledger.at_gate.before(tag)[0]
        few = 0
        if class_name != BATCH:
            aside = ledger.aside_order.before(tag)[0]
            tokens -= aside
            in_engine -= aside - ledger.aside_at_gate.before(tag)[0]
            few = self.few
        behind = ledger.engine_prefill - in_engine
        if class_name != BATCH:
            of_them, part = ledger.behind, ledger.part
            beyond = of_them.engine_prefill - few if few else of_them.beyond_a_step(part)
            behind = max(behind - beyond, 0)
        if behind:
            tokens += min(behind, max(round(self._large_tokens), self.config.step_tokens))
            sequences += 1
        computed = self.next_step.computed(ledger.engine_prefill, now, first=few > 0)
        return max(tokens - computed, 0.0), sequences

    @property
    def _large_tokens(self) -> float:
        """Of a large prompt that is queued, in the mean; 0 while there is none."""
        return self.ledger.large_tokens / max(self.ledger.large, 1)

    def _ahead_beside(self, cost: Cost, tag: int, now: float) -> float:
        """Prompt tokens that are computed before those of a request that passes the long ones.

        A long prompt has a part of each step, whoever is behind it the rest (`prompt_parts.py`).
        """
        ledger = self.ledger
        long, tokens = len(ledger.long), ledger.long.tokens
        if self.few:  # those behind have no part of its steps
            long, tokens = ledger.front.in_parts, ledger.front.in_parts_tokens
        if not long:
            return inf
        computed = self.next_step.computed(ledger.engine_prefill, now)
        parts = long * ledger.part
        left = self.config.step_tokens - parts
        if left < ledger.part:
            return inf
        short = ledger.engine_before(tag)[0] - ledger.long.before(tag)[0]
        own = cost.prefill_per_sequence
        steps = max(ceil((short + own) / left), ceil(own / ledger.part)) + 1  # with that under way
        return short + min(max(tokens - computed, 0.0), steps * parts)

    def _releases(self, cost: Cost, *, kv: bool = False) -> Releases:
        return self._curve.now(cost.output_tokens / cost.sequences, kv=kv)

    def backlog_s(self, cost: Cost) -> float:
        """Seconds until everybody who is queued now has a first token."""
        over = len(self.ledger.running) + self.ledger.queued_sequences - self.size.sequences
        slots_s = max(over, 0.0) * self.seconds_per_slot(cost)
        return slots_s + self._prompts_s(self.ledger.queued_prefill)

    def _prompts_s(self, tokens: float) -> float:
        """Seconds that so many tokens of prompts like those queued take."""
        ledger = self.ledger
        times = self.paces.effort.times(ledger.short_prefill, ledger.attended)
        long, queued = ledger.long.tokens, ledger.queued_prefill
        if self.few:  # of those behind nobody waits for more
            long, queued = ledger.front.in_parts_tokens, ledger.front.prefill
        if long:
            share = min(long / queued, 1.0)
            times += share * (self.own.long_times - times)
        return self.paces.prompts_s(tokens) * times

    def ends_s(self, cost: Cost, sequences: float) -> float:
        """Seconds until so many of the running answers have ended."""
        needs = Wait(slots=ceil(sequences), kv_tokens=0)
        return self._releases(cost).wait(needs) * self.paces.seconds_per_token_when_full
