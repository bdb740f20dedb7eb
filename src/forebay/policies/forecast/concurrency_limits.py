"""How many sequences an engine has room for at once: in all, in time, and of each flow.

Slots and KV cache bound what it runs; the promised TPOT bounds what it should run; and where
several flows ask for more than that, each has its part (`flow_slots.py`). Parts are counted in
*usual*
sequences: one whose footprint is five times the usual counts as five where it is the cache that
binds, for it keeps out as many (dominant shares: Ghodsi et al., NSDI 2011).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

from forebay.policies.fairness import FairQueue, Flow, FlowDemand, most_held
from forebay.policies.forecast.ledger import Ledger
from forebay.policies.forecast.paces import Paces
from forebay.policies.forecast.promised_pace import PromisedPace
from forebay.policies.request import BATCH, AdmissionConfig, Cost
from forebay.policies.request import Sequence as Answer

_DEMAND_BUDGETS = 2.0  # of the tightest: half-life of what flows are seen to ask for
_KEPT_FROM_BATCH = 8  # one of so many, for an interactive request that comes out of the blue
_MOST_OVER = 0.25  # of those at the promised pace, beyond it, so that flows get their part
_CROWDED = 0.5  # of the engine in use, below which nobody needs to be held back
# Of the longest step that keeps the pace: so much of it may be taken with those who are in the
# engine, whatever the mean of those who began lately says. They attend to more as they go on.
_SURELY = 0.9
# What flows ask for fades over seconds, so their parts are worked out now and then: it takes a look
# at all of them, some 3 us each. Who comes meanwhile has no part yet: a herd is looked at sooner.
_KEPT = 0.125  # of the time in which it fades to half,
_KEPT_CAME, _KEPT_CAME_OF_ALL, _KEPT_CAME_EACH = 16, 0.25, 0.25  # or until so many came
_KEPT_UNCROWDED_S = 0.02  # that nobody needs to be held back, which takes no look at flows
_KEEP = 0.5 ** (1 / 200)  # weight that what was learned of footprints keeps at each sequence


class EngineSize:
    """Learns the footprints of what is let in; reads the ledger, and changes nothing of it.

    vLLM's default on an H100 is 1,024 slots, and the cache holds some 64 to 90 requests of 4,000 +
    1,000 tokens: slots never bind there. Who waits then waits for KV blocks, and what is shared
    out between flows, kept free of batch, or given back every so many seconds is a part of what
    fits, not of the slots.

    What is usual is what an engine is full of: of what was let in, each counted for as long as it
    stays. Long prompts with answers of a few tokens are many of those that come, and few of those
    that are there. What was refused is there at no time.
    """

    def __init__(self, slots: int, kv_tokens: int, ledger: Ledger) -> None:
        """Nothing came; see `AdmissionConfig` for the two limits."""
        self._slots = float(slots)
        self._kv_tokens = kv_tokens
        self._ledger = ledger
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._stays = 0.0  # steps, of sequences
        self._tokens = 0.0  # of KV, times those

    def let_in(self, cost: Cost) -> None:
        """A request was let in."""
        stays = max(cost.output_tokens, cost.sequences)
        keep = _KEEP**cost.sequences
        self._stays = keep * self._stays + stays
        self._tokens = keep * self._tokens + stays * self._ledger.kv_beside(cost) / cost.sequences

    @property
    def footprint(self) -> float:
        """KV tokens that a usual sequence takes by its end; 0 while unknown."""
        return self._tokens / self._stays if self._stays else 0.0

    @property
    def sequences(self) -> float:
        """Usual sequences that there are slots and KV cache for; at least 1."""
        by_kv = self._kv_tokens / self.footprint if self.footprint else inf
        return max(min(self._slots, by_kv), 1.0)

    @property
    def free(self) -> float:
        """Those that there are slots and cache for beside what runs now."""
        running = len(self._ledger.running)
        kv_tokens = self._kv_tokens - (self._ledger.kv_tokens - self._ledger.queued_kv)
        by_kv = kv_tokens / self.footprint if self.footprint else inf
        return max(min(self._slots - running, by_kv), 0.0)


class _Usual(NamedTuple):
    """What is counted in usual sequences: how many there may be, and what is one of them."""

    in_all: float
    by_slots: float  # of slots, or of places at the promised pace; 0 while most are free
    by_kv: float  # of a KV token

    def of(self, sequences: float, kv_tokens: float) -> float:
        """So many sequences in usual ones, by what they take most of."""
        return max(sequences * self.by_slots, kv_tokens * self.by_kv)


class ConcurrencyLimits:
    """Reads the state that it is given, and changes none of it; learns what is asked for.

    Attributes:
        pace: how many sequences at once keep the promised time per token.
    """

    def __init__(
        self,
        config: AdmissionConfig,
        ledger: Ledger,
        paces: Paces,
        fair: FairQueue,
        size: EngineSize,
    ) -> None:
        """See `AdmissionController` for what these are."""
        self._config = config
        self._ledger = ledger
        self._paces = paces
        self._fair = fair
        self._size = size
        tightest_s = min(policy.ttft_s for policy in config.classes.values())
        self._demand_s = _DEMAND_BUDGETS * tightest_s
        self.pace = PromisedPace(config, paces)
        self.forget()

    def offered(self, flow: Flow, cost: Cost, now: float) -> None:
        """A request was offered at `now` (s), whatever becomes of it."""
        self._wanted.came(flow, cost, now)
        self._came += cost.sequences

    def ended(self, answer: Answer) -> None:
        """A running answer has ended."""
        self._wanted.ended(answer.ticket.flow, answer.produced, answer.footprint)

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._wanted = FlowDemand(self._demand_s)
        self._parts: Mapping[Flow, float] = {}
        self._kept_until = -inf  # seconds, then they are worked out again,
        self._most_come = 0.0  # and after so many sequences,
        self._came = 0  # of which so many have come
        self._shares: Mapping[Flow, float] = {}  # and by weight, of the flows that it was of
        self._size.forget()
        self.pace.forget()

    # --- in all ---------------------------------------------------------------------------

    @property
    def in_time(self) -> float:
        """Usual sequences at once that it holds, and keeps the promised pace with."""
        return min(self._size.sequences, self.pace.sequences)

    @property
    def sustained(self) -> tuple[float, float]:
        """Prompt and output tokens/s, each of an engine that does nothing else; 0: unknown."""
        return self.pace.sustained(self._size.sequences)

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
        return self.pace.step_s_with(self.in_time)

    # --- for a request --------------------------------------------------------------------

    def too_many(self, cost: Cost) -> float:
        """Sequences beyond those at the promised pace, with a request's too; <= 0: none.

        Those who began lately say how many these are. Where the ones in the engine take less than
        they did, there is room all the same: else few would begin, and few say little.
        """
        at_once = min(self._ledger.in_engine + cost.sequences, self._config.slots)
        over = at_once - self.pace.sequences
        if over > 0.0 and self._step_s_with(cost) <= _SURELY * self.pace.step_s:
            return 0.0
        return over

    def _step_s_with(self, cost: Cost) -> float:
        """Seconds of a step with those in the engine and a request, by what they will attend to.

        A burst that has just begun attends to little, and to half of its answers more in the mean.
        """
        ledger = self._ledger
        at_once = ledger.in_engine + cost.sequences
        own = cost.sequences * (cost.prefill_per_sequence + cost.cached_per_sequence)
        to_come = 0.5 * (ledger.in_engine * self.pace.answer_tokens + cost.output_tokens)
        context = ledger.context + ledger.engine_prefill + own + to_come
        return self._paces.law.seconds(at_once, self.pace.prompts_beside(at_once), context)

    def is_owed(self, cost: Cost, flow: Flow, now: float) -> bool:
        """Whether a flow has not its part of those at the promised pace yet, with this request.

        Those who came before it have more than theirs, and keep it to their ends: meanwhile a few
        more than keep the pace are let in. Where nobody has more than its part, nobody's end would
        bring the engine back.
        """
        over, held = self.too_many(cost), self._ledger.held
        if over > _MOST_OVER * self.in_time:
            return False
        if flow not in self._shares:
            self._kept_until = -inf
        parts = self.parts(now)
        if held[flow] + cost.sequences > max(parts.get(flow, inf), 1.0):
            return False
        shares = self._shares.items()
        return sum([max(held[one] - max(share, 1.0), 0.0) for one, share in shares]) >= over

    @property
    def for_batch(self) -> float:
        """Usual sequences of batch that there may be, beside who comes out of the blue."""
        return max(self.in_time - self._kept_from_batch, 1.0)

    @property
    def _kept_from_batch(self) -> float:
        return max(self.in_time / _KEPT_FROM_BATCH, 1.0)

    def leaves_enough(self, cost: Cost) -> bool:
        """Whether a request of batch leaves interactive ones a part of the pace and the cache."""
        if self.too_many(cost) > -self._kept_from_batch:
            return False
        kv_tokens = self._ledger.kv_tokens + self._ledger.kv_beside(cost)
        return kv_tokens <= (1.0 - 1.0 / _KEPT_FROM_BATCH) * self._config.kv_tokens

    # --- of each flow ---------------------------------------------------------------------

    def parts(self, now: float) -> Mapping[Flow, float]:
        """Usual sequences that flows may have at once, of those who are held to a part."""
        if now > self._kept_until or self._came >= self._most_come:
            self._parts, self._came = self._worked_out(now), 0
        return self._parts

    def _worked_out(self, now: float) -> Mapping[Flow, float]:
        usual, ledger = self._usual, self._ledger
        if usual.of(ledger.in_engine, ledger.kv_tokens) < _CROWDED * usual.in_all:
            self._shares = {}
            self._kept_until, self._most_come = now + _KEPT_UNCROWDED_S, _KEPT_CAME
            return {}
        asked = {
            flow: usual.of(sequences, sequences * kv_tokens)
            for flow, sequences, kv_tokens in self._wanted.by_flow(self._seconds_per_token, now)
        }
        # Whoever asks no more and still holds much has a part too, of which it has its fill.
        flows = list(dict.fromkeys([*asked, *ledger.held]))
        most_come = min(_KEPT_CAME, _KEPT_CAME_OF_ALL * usual.in_all)
        self._most_come = max(most_come, len(flows) * _KEPT_CAME_EACH)
        self._kept_until = now + _KEPT * self._demand_s
        weights = self._fair.weights_of(flows)
        each = usual.in_all / sum(weights)
        self._shares = {one: each * weight for one, weight in zip(flows, weights, strict=True)}
        held = self._held_by(flows, usual)
        wanted = [max(asked.get(flow, 0.0), has) for flow, has in zip(flows, held, strict=True)]
        if sum(wanted) <= usual.in_all:
            return {}  # everybody gets what it asks for

        def weigh(chosen: Sequence[int]) -> list[float]:
            return self._fair.weights_of([flows[place] for place in chosen])

        most = most_held(wanted, weigh, usual.in_all)
        return {flow: part for flow, part in zip(flows, most, strict=True) if part < inf}

    def has_its_part(self, flow: Flow, cost: Cost, parts: Mapping[Flow, float]) -> bool:
        """Whether a flow would have more than its part with a request; it may always have one."""
        ledger = self._ledger
        if not ledger.held[flow]:
            return False
        usual = self._usual
        most = self.for_batch if flow[1] == BATCH else inf
        if flow in parts:  # to the nearest: of few slots a part cut down would be off by much
            own = usual.of(cost.sequences, ledger.kv_beside(cost)) / cost.sequences
            most = min(most, parts[flow] + 0.5 * own)
        return self._held(flow, usual, cost) > most

    def batch_has_its_part(self, cost: Cost) -> bool:
        """Whether batch would have more than there may be of it, with a request."""
        ledger, slots = self._ledger, self._config.slots
        sequences = ledger.totals[BATCH].in_engine + cost.sequences
        if sequences > slots - max(slots // _KEPT_FROM_BATCH, 1):
            return True
        kv_tokens = ledger.kv_of[BATCH] + ledger.kv_beside(cost)
        return self._usual.of(sequences, kv_tokens) > self.for_batch

    def _held(self, flow: Flow, usual: _Usual, cost: Cost) -> float:
        """Usual sequences that a flow would have in the engine with a request."""
        sequences = self._ledger.held[flow] + cost.sequences
        kv_tokens = self._ledger.held_kv[flow] + self._ledger.kv_beside(cost)
        in_the_end = sequences * self._wanted.kv_tokens(flow)  # its answers may outgrow what
        return usual.of(sequences, max(kv_tokens, in_the_end))  # is expected of all

    def _held_by(self, flows: Sequence[Flow], usual: _Usual) -> list[float]:
        """Usual sequences that flows have in the engine; in a row, since there may be hundreds."""
        ledger, (_, by_slots, by_kv) = self._ledger, usual
        held, held_kv, usually = ledger.held, ledger.held_kv, self._wanted.kv_tokens
        found = []
        for flow in flows:
            sequences = held.get(flow)
            if sequences:
                kv_tokens = max(held_kv[flow], sequences * usually(flow))
                found.append(max(sequences * by_slots, kv_tokens * by_kv))
            else:
                found.append(0.0)
        return found

    @property
    def _usual(self) -> _Usual:
        at_once = min(float(self._config.slots), self.pace.sequences)
        in_time = min(self._size.sequences, at_once)
        by_slots = in_time / at_once if self._ledger.in_engine >= _CROWDED * at_once else 0.0
        return _Usual(in_time, by_slots, in_time / self._config.kv_tokens)

    @property
    def _seconds_per_token(self) -> float:
        """With prompts in between, tokens come more slowly than a full engine makes them alone."""
        paces = self._paces
        return max(paces.seconds_per_token, paces.seconds_per_token_when_full)
