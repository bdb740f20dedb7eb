"""Interactive prompts that are computed in parts take turns: one after the other, not side by side.

Prompts are cut into parts so that a long one leaves most of each step to the short (see
`prompt_parts.py`). Two long ones would then share the steps, and the first would be as late as the
second. So the second waits at the gate until the first has no more than a part left, unless that
one is so much longer that it had better not wait for it. Where a prompt takes little of the budget
they do share: several parts in a step are cheaper than one, and nobody is late. Those that give way
to others (`own_time.py`) have a queue of their own, and wait for each other alone.

In virtual time (0.42 s for each prompt of 2,800 tokens, a
budget of 1 s; offered 1.7 and 2.55 times what the engine finishes) 1.32 and 1.45 requests/s were
good side by side, 1.55 and 1.75 one after the other, and with prompts not cut at all 1.67 and 1.93.
Where all prompts are as long, none is cut for long (`prompt_parts.Cutting`): 1.67 and 1.95.
"""

from __future__ import annotations

from forebay.policies.fairness import HeldQueue
from forebay.policies.forecast import Ledger, NextStep
from forebay.policies.request import Cost, Cutting, Ticket

_MUCH = 0.25  # of the budget: a prompt that takes less does not make another late
_MUCH_LONGER = 2.0  # times as long as its own: what a prompt does not wait for


class LongPromptQueue:
    """Who waits at the gate for a long prompt before it."""

    def __init__(self, cutting: Cutting, ledger: Ledger, next_step: NextStep) -> None:
        """Nobody waits. Reads the others, and changes none."""
        self._cutting = cutting
        self._ledger = ledger
        self._next_step = next_step
        self.held = HeldQueue()
        self.held_aside = HeldQueue()  # those who give way, and wait for nobody else

    def waits(self, ticket: Ticket, own_s: float, now: float) -> bool:
        """Whether an interactive ticket that arrives at `now` (s) has to wait for its turn.

        Args:
            ticket: it.
            own_s: seconds that its prompts take.
            now: seconds.
        """
        if not (ticket.steps_aside or self.takes_them(ticket.cost, ticket.budget_s, own_s)):
            return False
        return len(self.queue_of(ticket)) > 0 or not self.may_enter(ticket, now)

    def queue_of(self, ticket: Ticket) -> HeldQueue:
        """Where it waits."""
        return self.held_aside if ticket.steps_aside else self.held

    def takes_them(self, cost: Cost, budget_s: float, own_s: float) -> bool:
        """Whether a request's prompt is so long that it takes turns with others like it.

        Args:
            cost: of the request.
            budget_s: of its class.
            own_s: seconds that its prompts take.
        """
        return self._cutting.cuts(cost) and own_s > _MUCH * budget_s

    def goes_before(self, batch: Ticket) -> bool:
        """Whether one that gives way has its turn before such a ticket of batch."""
        if self._ledger.aside.engine_prefill:
            return True
        first = self.held_aside.first()
        return first is not None and first.tag < batch.tag

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.held) + len(self.held_aside)

    def may_enter(self, ticket: Ticket, now: float) -> bool:
        """Whether it may go to the engine at `now` (s)."""
        ledger = self._ledger
        if ticket.steps_aside:
            # A step computes few tokens of all who give way. It would head the queue meanwhile, and
            # those behind it do not give way.
            return not ledger.behind.engine_prefill
        if not ledger.front.in_parts:
            return True
        computed = self._next_step.computed(ledger.engine_prefill, now, first=True)
        left = ledger.front.in_parts_tokens - computed
        own = ticket.cost.prefill_tokens
        return left <= ledger.part or left > _MUCH_LONGER * own
