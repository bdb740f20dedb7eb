"""How many sequences an engine has room for at once: in all, in time, and of each flow.

Slots and KV cache bound what it runs; the promised TPOT bounds what it should run; and where
several flows ask for more than that, each has its part (`slots.py`).
"""

from __future__ import annotations

from math import floor, inf

from forebay.policies.cost import Cost
from forebay.policies.decisions import BATCH, AdmissionConfig
from forebay.policies.fairness import FairQueue
from forebay.policies.ledger import Ledger
from forebay.policies.overtaking import Arrivals, Flow
from forebay.policies.paces import Paces
from forebay.policies.rates import DecayedRate
from forebay.policies.slots import Claim, most_held

_DEMAND_BUDGETS = 2.0  # of the tightest: half-life of what flows are seen to ask for
_FOOTPRINTS = 200.0  # sequences, after which half of what was learned of their size has faded
_KEPT_FROM_BATCH = 8  # one slot in so many, for an interactive request that comes out of the blue
_LEAST_OF_STEP = 0.1  # is left for prompts, whatever the base of a step should take
# The promise is taken to be at least so many times the pace of a lone sequence. To keep a tighter
# one, a bound would have to give away most of the engine for little.
_LEAST_STRETCH = 1.25
_CROWDED = 0.5  # of the slots in use, below which nobody needs to be held back


class Room:
    """Reads the state that it is given, and changes none of it; learns what flows offer."""

    def __init__(
        self, config: AdmissionConfig, ledger: Ledger, paces: Paces, fair: FairQueue
    ) -> None:
        """See `AdmissionController` for what these are."""
        self._config = config
        self._ledger = ledger
        self._paces = paces
        self._fair = fair
        tightest_s = min(policy.ttft_s for policy in config.classes.values())
        self._demand = Arrivals(_DEMAND_BUDGETS * tightest_s)  # offered
        self._footprint = DecayedRate(_FOOTPRINTS)  # KV tokens a sequence, of what is offered
        # Tokens a sequence, of prompts and of answers, of what enters the engine.
        self._prompts, self._answers = DecayedRate(_FOOTPRINTS), DecayedRate(_FOOTPRINTS)

    def offered(self, flow: Flow, cost: Cost, now: float) -> None:
        """A request was offered at `now` (s), whatever becomes of it."""
        self._demand.add(flow, cost, now)
        self._footprint.add(cost.kv_tokens, cost.sequences)

    def entered(self, cost: Cost) -> None:
        """A request reached the engine."""
        if cost.output_tokens > cost.sequences:  # an answer of one token has no pace
            self._prompts.add(cost.prefill_tokens, cost.sequences)
            self._answers.add(cost.output_tokens, cost.sequences)

    # --- in all ---------------------------------------------------------------------------

    @property
    def in_time(self) -> float:
        """Sequences at once that the engine has slots for and keeps the promised pace with."""
        return min(float(self._config.slots), self.at_promised_pace)

    @property
    def at_promised_pace(self) -> float:
        """Sequences at once within which tokens come at the promised pace; at least 1.

        Who comes in the place of those who end brings a prompt: a step computes as many prompt
        tokens for each token of an answer as the prompts have for those of their answers.
        """
        answers = self._answers.rate
        return self._within_promise(self._prompts.rate / answers if answers else 0.0)

    def _within_promise(self, prompt_tokens: float) -> float:
        """The same, with so many prompt tokens to compute for each token of an answer."""
        law = self._paces.law
        if self._config.tpot_s is None or not law.known:
            return inf
        step_s = max(self._config.tpot_s, _LEAST_STRETCH * law.seconds(1, 0))
        each_s = law.per_sequence_s + law.per_token_s * prompt_tokens
        return max((step_s - law.base_s) / each_s, 1.0) if each_s else inf

    @property
    def sustained(self) -> tuple[float, float]:
        """Prompt and output tokens/s, each of an engine that does nothing else; 0: unknown.

        From the law of its steps, so that the two add up: a step takes its base and the time of
        its prompts and of its answers, and of the longest step that keeps the promised pace the
        base is lost to either. What prompts are seen to drain at, and answers to be made at, is
        slower where they share steps; counted as capacities, each would be charged for the other.
        """
        law, at_once = self._paces.law, self._sustained_at_once
        if not law.known or not law.per_token_s:
            tpot_s = self._paces.seconds_per_token_when_full
            return self._paces.prefill_rate.rate, at_once / tpot_s if tpot_s else 0.0
        step_s = law.seconds(0, self._config.step_tokens)
        if self._config.tpot_s is not None:
            step_s = min(step_s, self._config.tpot_s)
        for_prompts = max(1.0 - law.base_s / step_s, _LEAST_OF_STEP)
        return for_prompts / law.per_token_s, at_once / law.seconds(at_once, 0)

    @property
    def _sustained_at_once(self) -> float:
        """Answers at once: within slots and promised pace, and as the KV cache holds of late."""
        footprint = self._footprint.rate
        fit = self._config.kv_tokens / footprint if footprint else inf
        return max(min(float(self._config.slots), self._within_promise(0.0), fit), 1.0)

    # --- for a request --------------------------------------------------------------------

    def too_many(self, cost: Cost) -> float:
        """Sequences beyond those at the promised pace, with a request's too; <= 0: none."""
        at_once = min(self._ledger.in_engine + cost.sequences, self._config.slots)
        return at_once - self.at_promised_pace

    def part_of(self, flow: Flow, now: float) -> float:
        """Sequences at once, of those at the promised pace, that a flow's weight gives it."""
        flows = [other for other, _ in self._demand.outputs(now)]
        if flow not in flows:
            flows.append(flow)
        weights = self._fair.weights_of(flows)
        return self.in_time * weights[flows.index(flow)] / sum(weights)

    @property
    def for_batch(self) -> int:
        """Slots that batch may take; the others are kept for who comes out of the blue."""
        return self._config.slots - max(self._config.slots // _KEPT_FROM_BATCH, 1)

    def of_flow(self, flow: Flow, now: float) -> float:
        """Sequences that a flow may have at once; at least one request is always let in."""
        if not self._ledger.held[flow]:
            return inf
        slots = round(self.in_time)
        most = float(slots - max(slots // _KEPT_FROM_BATCH, 1)) if flow[1] == BATCH else inf
        outputs = self._demand.outputs(now)
        if len(outputs) < 2 or self._ledger.in_engine < _CROWDED * slots:
            return most
        flows = [other for other, _ in outputs]
        if flow not in flows:  # it is long ago that it asked
            return most
        # With prompts in between, tokens come more slowly than a full engine makes them alone.
        paces = self._paces
        seconds = max(paces.seconds_per_token, paces.seconds_per_token_when_full)
        claims = [
            Claim(weight, tokens * seconds)
            for weight, (_, tokens) in zip(self._fair.weights_of(flows), outputs, strict=True)
        ]
        place = flows.index(flow)
        held = most_held(claims[place], claims[:place] + claims[place + 1 :], slots)
        # To the nearest: of few slots a part cut down would be off by much.
        return min(most, floor(held + 0.5) if held < inf else inf)

    def __repr__(self) -> str:
        return f"<Room for {self.in_time:.0f} of {self._config.slots} sequences>"
