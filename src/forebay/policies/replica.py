"""The life of a request in one replica, without IO.

    offer ─► Shed                             the engine never hears of it
      └────► Admitted ─┬──────────────► took ─► step, step, ... ─► close
                       └► held ─► released ┘ └─► due: abort ───────┘

A shell carries out what is said here: the ASGI gate and the engine tap in production and in
emulation, the simulator, and the tests. It tells what happened, with `now` in seconds. It gets back
what is to be done: tickets whose requests may go to the engine now, and tickets to abort. It
awaits, and never decides.

- `offer`: a request asks. It is shed, or admitted under a ticket. A ticket may be *held*: its
  request waits at the gate until one of these calls releases it.
- `took`: the engine has one of its prompts, and the tokens are exact.
- `step`, `end`: what the engine made.
- `due`: those whose deadline has passed without a first token. The shell aborts, then closes them.
- `close`: the request is over, however it ended. Again, it does nothing.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from math import inf

from forebay.policies.admission import AdmissionController
from forebay.policies.offered_work import OfferedWork
from forebay.policies.quotas import WINDOW_S
from forebay.policies.request import (
    AdmissionConfig,
    Admitted,
    Chunks,
    Cost,
    CostModel,
    Decision,
    Shed,
    StepOutput,
    Ticket,
)
from forebay.policies.request import Sequence as Answer

# A refusal for quota tells a wait of up to a window, jittered up to twice that.
_QUOTA_RETRIES_S = 2 * WINDOW_S


class ReplicaCore:
    """What one replica has admitted, from the offer to the end.

    Attributes:
        admission: decides, and learns from what the engine does.
        offered: running totals of all that was offered.
        arrivals: requests offered so far.
        prompt_tokens: of prompts that got their first token.
        cached_tokens: of these, those that came from the prefix cache.
        output_tokens: of all answers.
        retries_new_until: seconds; until then retries are new demand, since nobody counted the
            first attempts while no replica was there.
    """

    def __init__(
        self, config: AdmissionConfig, costs: CostModel, jitter: Callable[[], float]
    ) -> None:
        """Nothing is admitted; `jitter` returns values in [0, 1)."""
        self.admission = AdmissionController(config, costs, jitter)
        self.offered = OfferedWork()
        self.arrivals = self.prompt_tokens = self.cached_tokens = self.output_tokens = 0
        self.retries_new_until = -inf
        self._quota_refused_at: dict[str, float] = {}  # the last time, by tenant
        self._deadlines: list[tuple[float, int, Ticket]] = []
        self._numbers = itertools.count()

    # --- coming ---------------------------------------------------------------------------

    def offer(
        self,
        cost: Cost,
        flow: tuple[str, str],
        now: float,
        *,
        retries: int = 0,
        waited_s: float = 0.0,
    ) -> Decision:
        """Admit or shed a request.

        Args:
            cost: what it is expected to take.
            flow: its tenant and class.
            now: seconds.
            retries: how often it has been refused before, as its client says.
            waited_s: seconds since it arrived, which its user has waited already.
        """
        tenant, class_name = flow
        self.arrivals += 1
        likely = self.admission.costs.likely(cost)  # first: a fault here has admitted nobody
        decision = self.admission.decide(
            cost, class_name, now, tenant, retries=retries, waited_s=waited_s
        )
        if isinstance(decision, Admitted):
            deadline_s = self.admission.config.classes[class_name].deadline_s
            entry = now - waited_s + deadline_s, next(self._numbers), decision.ticket
            heapq.heappush(self._deadlines, entry)
        elif decision.reason == "draining":
            return decision  # it is sent elsewhere, and counted there
        if self._is_new_demand(tenant, retries, now - waited_s):
            self.offered.add(likely, self.admission.room.kv_s(likely))
        return decision

    def over_quota(self, flow: tuple[str, str], now: float, wait_s: float) -> Shed:
        """Refuse a request whose tenant has no quota left until `wait_s` (seconds) have passed."""
        tenant, class_name = flow
        self.arrivals += 1
        self._quota_refused_at[tenant] = now
        budget_s = self.admission.config.classes[class_name].ttft_s
        return Shed("quota", 0.0, budget_s, self.admission.jittered(wait_s))

    def _is_new_demand(self, tenant: str, retries: int, now: float) -> bool:
        """Whether the fleet should grow for it: not for a request that was counted before.

        A retry was, unless its first attempt may have found no quota left, or no replica at all.
        """
        refused_at = self._quota_refused_at.get(tenant, -inf)
        return not retries or now - refused_at < _QUOTA_RETRIES_S or now < self.retries_new_until

    @property
    def held(self) -> int:
        """Tickets whose requests wait at the gate."""
        return len(self.admission.pacing.held) + self.admission.turns.waiting

    # --- in the engine --------------------------------------------------------------------

    def can_take(self, ticket: Ticket) -> bool:
        """Whether the engine may receive a prompt under this ticket."""
        return not (ticket.closed or ticket.held or ticket.is_used_up)

    def took(
        self,
        ticket: Ticket,
        prompt_tokens: int,
        output_cap: int,
        now: float,
        chunks: Chunks = (),
        *,
        is_text: bool = False,
    ) -> Answer:
        """The engine has received one prompt of a ticket; its `marks` are for the scheduler.

        Args:
            ticket: that `can_take` allows.
            prompt_tokens: exact.
            output_cap: most tokens of the answer.
            now: seconds.
            chunks: of the prompt that may be shared; none where the engine shares no prefixes.
            is_text: whether the ticket's `prompt_bytes` are those of this prompt.
        """
        if not any(s.bound for s in ticket.sequences):
            self.admission.entered(ticket, now)
            if is_text and ticket.prompt_bytes:
                self.admission.costs.observe_prompt(ticket.prompt_bytes, prompt_tokens)
        return self.admission.bind(ticket, prompt_tokens, output_cap, chunks)

    def step(self, outputs: Sequence[StepOutput], engine_at: float, now: float) -> list[Ticket]:
        """A step ended at `engine_at` and was seen at `now` (seconds)."""
        self._count(outputs)
        return self.admission.observe_step(outputs, engine_at, now)

    def steps(self, outputs: Sequence[StepOutput], ends: Sequence[float]) -> list[Ticket]:
        """Steps in a row in which the same answers go on, ended at `ends` (seconds)."""
        self._count(outputs)
        return self.admission.observe_steps(outputs, ends)

    def _count(self, outputs: Iterable[StepOutput]) -> None:
        for output in outputs:
            self.output_tokens += output.tokens
            if output.cached is not None:
                self.prompt_tokens += output.sequence.prompt
                self.cached_tokens += output.cached

    def end(self, sequence: Answer, *, natural: bool, now: float) -> list[Ticket]:
        """An answer has ended where no step shows it: at a stop string (`natural`), or failed."""
        return self.admission.end(sequence, natural=natural, now=now)

    # --- going ----------------------------------------------------------------------------

    @property
    def next_due(self) -> float:
        """When `due` is to be asked next, in seconds; infinity while nobody waits."""
        while self._deadlines and not _waits(self._deadlines[0][2]):
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else inf

    def due(self, now: float) -> list[Ticket]:
        """Requests whose deadline has passed by `now` without a first token."""
        late: list[Ticket] = []
        while self.next_due <= now:
            late.append(heapq.heappop(self._deadlines)[2])
        return late

    def close(self, ticket: Ticket, now: float) -> list[Ticket]:
        """The request is over, however it ended; what it still holds is free."""
        return self.admission.close(ticket, now)

    def check_integrity(self) -> None:
        """Raise AssertionError when a total or a bound does not hold."""
        self.admission.check_integrity()

    def __repr__(self) -> str:
        return f"<ReplicaCore {self.admission!r}>"


def _waits(ticket: Ticket) -> bool:
    return not ticket.closed and ticket.first_token_at is None
