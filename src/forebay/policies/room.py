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
from forebay.policies.promised_pace import PromisedPace
from forebay.policies.rates import DecayedRate
from forebay.policies.slots import Claim, most_held

_DEMAND_BUDGETS = 2.0  # of the tightest: half-life of what flows are seen to ask for
_FOOTPRINTS = 200.0  # sequences, after which half of what was learned of their size has faded
_KEPT_FROM_BATCH = 8  # one slot in so many, for an interactive request that comes out of the blue
_MOST_OVER = 0.25  # of those at the promised pace, beyond it, so that flows get their part
_WANTED = 0.1  # sequences at once: a flow that asks for less leaves its part to others
_CROWDED = 0.5  # of the slots in use, below which nobody needs to be held back


class Room:
    """Reads the state that it is given, and changes none of it; learns what is asked for.

    Attributes:
        pace: how many sequences at once keep the promised time per token.
    """

    def __init__(
        self, config: AdmissionConfig, ledger: Ledger, paces: Paces, fair: FairQueue
    ) -> None:
        """See `AdmissionController` for what these are."""
        self._config = config
        self._ledger = ledger
        self._paces = paces
        self._fair = fair
        self._tightest_s = min(policy.ttft_s for policy in config.classes.values())
        self.pace = PromisedPace(config, paces)
        self.forget()

    def offered(self, flow: Flow, cost: Cost, now: float) -> None:
        """A request was offered at `now` (s), whatever becomes of it."""
        self._demand.add(flow, cost, now)
        self._footprint.add(self._ledger.kv_beside(cost), cost.sequences)

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._demand = Arrivals(_DEMAND_BUDGETS * self._tightest_s)  # offered
        self._footprint = DecayedRate(_FOOTPRINTS)  # KV tokens a sequence, of what is offered
        self.pace.forget()

    # --- in all ---------------------------------------------------------------------------

    @property
    def in_time(self) -> float:
        """Sequences at once that the engine has slots for and keeps the promised pace with."""
        return min(float(self._config.slots), self.pace.sequences)

    @property
    def sustained(self) -> tuple[float, float]:
        """Prompt and output tokens/s, each of an engine that does nothing else; 0: unknown."""
        return self.pace.sustained(self._fit)

    def kv_s(self, cost: Cost) -> float:
        """Tokens of KV cache x seconds for which a request would hold them beside others."""
        tokens = self._ledger.kv_beside(cost)
        return tokens * cost.output_tokens / cost.sequences * self._full_step_s

    @property
    def _full_step_s(self) -> float:
        """Seconds per token with as many at once as there may be.

        Slots alone do not say how many: where they are more than the cache has room for, or than
        keep the promised pace, they are never all taken.
        """
        if not self._paces.law.known:
            return self._paces.seconds_per_token_when_full
        return self.pace.step_s_with(min(self._fit, self.pace.sequences))

    @property
    def _fit(self) -> float:
        """Sequences that there are slots and KV cache for; at least 1."""
        footprint = self._footprint.rate
        fit = self._config.kv_tokens / footprint if footprint else inf
        return max(min(float(self._config.slots), fit), 1.0)

    # --- for a request --------------------------------------------------------------------

    def too_many(self, cost: Cost) -> float:
        """Sequences beyond those at the promised pace, with a request's too; <= 0: none."""
        at_once = min(self._ledger.in_engine + cost.sequences, self._config.slots)
        return at_once - self.pace.sequences

    def is_owed(self, cost: Cost, flow: Flow, now: float) -> bool:
        """Whether a flow has not its part of those at the promised pace yet, with this request.

        Those who came before it have more than theirs, and keep it to their ends: meanwhile a few
        more than keep the pace are let in.
        """
        if self.too_many(cost) > _MOST_OVER * self.in_time:
            return False
        seconds = self._seconds_per_token
        flows = [
            other
            for other, tokens in self._demand.outputs(now)
            if other != flow and tokens * seconds >= _WANTED
        ]
        weight, *others = self._fair.weights_of([flow, *flows])
        part = self.in_time * weight / (weight + sum(others))
        return self._ledger.held[flow] + cost.sequences <= max(part, 1.0)

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
        if self._ledger.in_engine < _CROWDED * slots:
            return most
        outputs, seconds = self._demand.outputs(now), self._seconds_per_token
        if sum([tokens for _, tokens in outputs]) * seconds <= slots:
            return most  # everybody gets what it asks for
        flows = [other for other, _ in outputs]
        if len(flows) < 2 or flow not in flows:  # it is long ago that it asked
            return most
        claims = [
            Claim(weight, tokens * seconds)
            for weight, (_, tokens) in zip(self._fair.weights_of(flows), outputs, strict=True)
        ]
        place = flows.index(flow)
        held = most_held(claims[place], claims[:place] + claims[place + 1 :], slots)
        # To the nearest: of few slots a part cut down would be off by much.
        return min(most, floor(held + 0.5) if held < inf else inf)

    @property
    def _seconds_per_token(self) -> float:
        """With prompts in between, tokens come more slowly than a full engine makes them alone."""
        paces = self._paces
        return max(paces.seconds_per_token, paces.seconds_per_token_when_full)

    def __repr__(self) -> str:
        return f"<Room for {self.in_time:.0f} of {self._config.slots} sequences>"
