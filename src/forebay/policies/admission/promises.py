"""A promise made is kept: whom a newcomer would make late.

It makes late whom it overtakes, by its tag. And it makes late one before it that is computed in
parts: whoever comes while that one takes its steps computes a part of its own in each of them.

One that is late already is not saved by refusing others.

And how sure of a first token in time one has to be, to admit a request.
"""

from __future__ import annotations

from forebay.policies.forecast import EngineSize, Ledger, NextStep, Paces, Waits
from forebay.policies.request import Cost

_KEEP_CAME = 0.9  # weight that earlier arrivals keep at each new one


class Promises:
    """Reads the state that it is given, and changes none of it."""

    def __init__(
        self,
        size: EngineSize,
        step_tokens: int,
        ledger: Ledger,
        paces: Paces,
        waits: Waits,
        next_step: NextStep,
    ) -> None:
        """See `AdmissionController` for what these are."""
        self._size = size
        self._step_tokens = step_tokens
        self._share_a_step = step_tokens // ledger.part  # prompts, in parts
        self._ledger = ledger
        self._paces = paces
        self._waits = waits
        self._next_step = next_step

    def broken_by(self, cost: Cost, tag: int, now: float, *, takes_turns: bool) -> bool:
        """Whether an arrival of this tag would push anybody past their budget.

        One that takes turns (`long_prompt_queue.py`) shares no steps with the prompts that it would
        make late.
        """
        if not self._paces.drain_rate:
            return False
        if not takes_turns and self._by_sharing_steps(cost, tag, now):
            return True
        return self._by_overtaking(cost, tag, now)

    def _by_sharing_steps(self, cost: Cost, tag: int, now: float) -> bool:
        if not self._ledger.long:
            return False
        order, rate = self._ledger.order, self._paces.drain_rate
        computed = self._computed(now)
        for through, tokens, due in order.last_before(tag, self._share_a_step):
            if tokens <= self._step_tokens:
                continue
            behind, most = order.tokens - through, (self._share_a_step - 1) * tokens
            beside, beside_then = min(behind, most), min(behind + cost.prefill_tokens, most)
            left, left_s = max(through - computed, 0.0), due - now
            if (left + beside) / rate <= left_s < (left + beside_then) / rate:
                return True
        return False

    def _by_overtaking(self, cost: Cost, tag: int, now: float) -> bool:
        """How soon slots come free is an estimate.

        Who is late only if it holds is still not made late by prompts.
        """
        order = self._ledger.order
        if order.before(tag)[1] == len(order):
            return False
        free = int(self._size.free)
        if self._makes_late(cost, tag, now, free, 0.0):
            return True
        if len(order) + cost.sequences <= free:
            return False
        return self._makes_late(cost, tag, now, free, self._waits.seconds_per_slot(cost))

    def _makes_late(self, cost: Cost, tag: int, now: float, free: int, slot_s: float) -> bool:
        """The same, where one of the `free` slots is given back every `slot_s` seconds."""
        rate, computed = self._paces.drain_rate, self._computed(now)

        def late(tokens: int, sequences: int, due: float) -> bool:
            prompts_s = max(tokens - computed, 0.0) / rate
            return prompts_s + max(sequences - free, 0) * slot_s > due - now

        def late_then(tokens: int, sequences: int, due: float) -> bool:
            return late(tokens + cost.prefill_tokens, sequences + cost.sequences, due)

        return self._ledger.order.makes_late(tag, late, late_then)

    def _computed(self, now: float) -> float:
        """Prompt tokens that nobody in front waits for: computed, or of those who step aside."""
        ledger, aside = self._ledger, self._ledger.aside.prefill
        return self._next_step.computed(ledger.engine_prefill, now, first=aside > 0) + aside


class Confidence:
    """The share of those who came lately that found others waiting, whatever became of them.

    Whoever is refused is not served in time for certain. Whoever is let in and comes late costs
    the others what it took of the engine, and that is something only where others would have had
    it. So the surer one has to be the more of those who come find others waiting: with nobody, a
    request is let in that makes it as likely as not; with all of them, one that makes it 99 times
    of 100, and with the whole margin to spare.
    """

    def __init__(self) -> None:
        """Nobody has come, and nothing is known that would allow to be bold."""
        self.share = 1.0

    def came(self, *, others_wait: bool) -> None:
        """A request came."""
        self.share = _KEEP_CAME * self.share + (1.0 - _KEEP_CAME) * others_wait
