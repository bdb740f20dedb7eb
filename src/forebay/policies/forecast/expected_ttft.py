"""What users are told to expect: the likeliest first token, where admission is cautious.

Two models, each set right by what came true of its own requests: of who waits for slots or at the
gate, the queue's (`waits.py`); of who waits for nothing but steps, the engine's next steps.
"""

from __future__ import annotations

from forebay.policies.forecast.ledger import Ledger
from forebay.policies.forecast.next_step import NextStep
from forebay.policies.forecast.ttft_correction import Factor, TTFTCorrection
from forebay.policies.forecast.waiting_time import Prediction
from forebay.policies.request import Ticket


class ExpectedTTFT:
    """Expected times to first token of one replica."""

    def __init__(self, ledger: Ledger, next_step: NextStep) -> None:
        """Reads `ledger` and changes it not; tells `next_step` what happens."""
        self._ledger = ledger
        self._next_step = next_step
        self.forget()

    def forget(self) -> None:
        """What came true so far was no traffic."""
        self._queued, self._by_steps = TTFTCorrection(), Factor()

    def of(self, ticket: Ticket, prediction: Prediction, now: float) -> float:
        """Seconds to the first token of a ticket that is not in the ledger yet; noted on it."""
        if ticket.steps_aside:  # what comes of others decides, and that is learned apart
            return prediction.raw_s + prediction.stalled_s
        if not (ticket.held or prediction.release_s):
            ledger, first = self._ledger, not ticket.gives_way
            ticket.steps_s = self._next_step.first_token_s(
                self._answers_beside(ticket),
                (ledger.front if first else ledger).engine_prefill,
                ticket.cost.prefill_per_sequence,
                now,
                in_parts=ticket.in_parts,
                first=first,
            )
        if ticket.steps_s is not None:
            expected_s = self._by_steps.of(ticket.steps_s)
        else:
            expected_s = self._queued.of(ticket.predicted_s)
        return expected_s + prediction.stalled_s

    def _answers_beside(self, ticket: Ticket) -> int:
        """Answers in the steps that compute its prompt, but for those who give way to it."""
        every = self._ledger.in_engine
        return every if ticket.gives_way else every - self._ledger.give_way

    def entered(self, ticket: Ticket, now: float) -> None:
        """The first sequence of a ticket reached the engine at `now` (s)."""
        if not ticket.gives_way:
            self._next_step.entered(now - ticket.admitted_at)

    def came_true(self, ticket: Ticket, waited_s: float) -> None:
        """The first token of a ticket came so long after its admission."""
        if ticket.steps_aside:
            return
        if ticket.steps_s is not None:
            self._by_steps.add(ticket.steps_s, waited_s)
        else:
            self._queued.add(ticket.predicted_s, waited_s)

    def __repr__(self) -> str:
        return f"<Foresight {self._queued!r} {self._by_steps!r} {self._next_step!r}>"
