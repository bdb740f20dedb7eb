"""When batch that waits at the gate may enter the engine.

Batch gives way to interactive prompts in the engine (`scheduling_hints.py`), but the step that runs
is not shortened. An interactive request that comes while batch prompts fill a step waits for its
end, its further tokens take longer by every answer that batch has running, and a full engine has no
slot for it. So admitted batch waits at the gate, in the order of its tags, and enters while

- the sequences that batch has in the engine make steps longer by no more than `stretch` allows: of
  the step that computes an interactive prompt without batch, by the learned `StepLaw`;
- of the prompts that go before it no more is left to compute than batch's next few steps take, each
  of which computes so many tokens as the same allowance's answers need (`scheduling_hints.py`):
  steps of one length, where whole prompts now and then would make long ones, and whoever comes is
  the likelier to wait for the end of one the longer it is;
- batch leaves the slots and the cache that others are owed (`concurrency_limits.py`), and keeps the
promised
  pace.

With nothing in the engine, the first that is held enters, and there is always room for one of
batch: nothing is held for ever. Whoever is about to be late enters whatever it does to others'
pace. While no interactive request has come lately, prompts enter as they fill steps, and slots
alone bound the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from forebay.engine_model import tokens_at
from forebay.policies.fading import DecayedRate
from forebay.policies.fairness import HeldQueue
from forebay.policies.forecast.step_law import StepLaw
from forebay.policies.request import Cost, Ticket, part_tokens

# Prompt tokens that may be in the engine when a ticket enters, in steps that compute them: what the
# next step computes, what the one after it does, and who comes from the gate takes a step to come.
_AHEAD_STEPS = 3
_MOST_OF_A_STEP = 0.3  # of its prompt tokens
LEAST_TOKENS = 16  # a step; fewer would take a prompt for ever
_ALONE_STEPS = 2.0  # as above, with those of the ticket, while no interactive request comes
_LATELY_S = 10.0  # since the last interactive request, after which batch has the engine to itself
_URGENT = 0.25  # of its budget left: from then on a held ticket is about to be late
_MOST_S = 10.0  # a longer step is a stall: it says nothing of how fast batch gets in
_KEEP = 0.95  # weight that what is typical keeps at each request


class _Limit(NamedTuple):
    """Prompt tokens of those who give way that a step computes: as of the last that entered.

    Attributes:
        tokens, half_at: see `marks.tokens_at`.
        cached: tokens of its prompt that were computed before.
    """

    tokens: int = 0
    half_at: int = 0
    cached: int = 0

    @classmethod
    def of(cls, ticket: Ticket) -> _Limit:
        return cls(ticket.step_tokens, ticket.half_at, ticket.cost.cached_per_sequence)

    def at(self, computed: float) -> int:
        """With so many computed of its own."""
        return tokens_at(self.cached + int(computed), self.tokens, self.half_at)

    def slower(self, computed: float) -> float | None:
        return 1.0 + (self.cached + computed) / self.half_at if self.half_at else None


@dataclass(frozen=True, slots=True)
class Place:
    """What a held ticket would find in the engine.

    Attributes:
        occupied: sequences in the engine, queued or running.
        batch: those of batch.
        ahead_tokens: prompt tokens still to be computed there that go before it.
        ahead_sequences: the same in sequences.
    """

    occupied: int
    batch: int
    ahead_tokens: float
    ahead_sequences: int


class Typical:
    """What is typical of requests: a mean that fades."""

    def __init__(self) -> None:
        """Nothing was seen."""
        self.mean = 0.0
        self._seen = False

    def add(self, value: float) -> None:
        """See one more."""
        self.mean = _KEEP * self.mean + (1.0 - _KEEP) * value if self._seen else value
        self._seen = True


class BatchPacing:
    """What is held at the gate, and when it may enter."""

    def __init__(self, step_tokens: int, stretch: float, *, heeds_marks: bool = True) -> None:
        """Hold nothing; see `AdmissionConfig` for the settings."""
        self._step_tokens = step_tokens
        self._stretch = stretch
        self._ahead_steps = _AHEAD_STEPS if heeds_marks else 1  # whose steps take whole prompts
        self.held = HeldQueue()
        self.forget()

    def forget(self) -> None:
        """What came so far was no traffic; whoever is held still is."""
        self.entry_rate = DecayedRate(half_life_s=5.0)  # prompt tokens/s, while some are held
        self._interactive = DecayedRate(half_life_s=1.0)  # sequences at once
        self._prompt = Typical()  # tokens of an interactive prompt in one step
        self._batch_prompt = Typical()
        self._batch_answer = Typical()
        self._context = Typical()  # tokens that an interactive answer attends to
        self._batch_context = Typical()
        self._last_at = -inf
        self._last_step_at: float | None = None
        self._newest = _Limit()
        self._entered = 0

    # --- what happens ---------------------------------------------------------------------

    def interactive_came(self, cost: Cost, now: float, *, cut: bool) -> None:
        """An interactive request arrived at `now` (s); its prompts may be computed in parts."""
        most = part_tokens(self._step_tokens) if cut else self._step_tokens
        self._prompt.add(min(cost.prefill_per_sequence, most))
        self._context.add(_attended(cost))
        self._last_at = now

    def hold(self, ticket: Ticket) -> None:
        """A ticket of batch comes to wait."""
        self.held.add(ticket)
        self._batch_prompt.add(ticket.cost.prefill_per_sequence)
        self._batch_answer.add(ticket.cost.output_tokens / ticket.cost.sequences)
        self._batch_context.add(_attended(ticket.cost))

    def enters(self, ticket: Ticket) -> None:
        """A held ticket goes to the engine."""
        self.held.remove(ticket)
        self._newest = _Limit.of(ticket)

    def stepped(self, started_tokens: int, interactive: int, now: float) -> None:
        """A step of the engine was seen.

        Args:
            started_tokens: prompt tokens of batch that got its first token in it.
            interactive: sequences of that class that run.
            now: seconds.
        """
        last, self._last_step_at = self._last_step_at, now
        self._entered += started_tokens
        if last is None or not 0.0 < now - last < _MOST_S:
            return
        self._interactive.add(interactive * (now - last), now - last)
        if len(self.held):
            self.entry_rate.add(self._entered, now - last)
        self._entered = 0

    # --- what follows from it -------------------------------------------------------------

    def shares(self, now: float) -> bool:
        """Whether interactive requests have come lately."""
        return now - self._last_at < _LATELY_S

    def wait_s(self, tokens_before: int) -> float:
        """Seconds until a held ticket behind so many held prompt tokens gets its first token."""
        rate = self.entry_rate.rate
        return tokens_before / rate if rate else 0.0

    def own_step_s(self, law: StepLaw) -> float:
        """Seconds of a step that computes an interactive prompt, without batch; 0 while unknown."""
        answers = self._interactive.rate
        return law.seconds(answers, self._prompt.mean, answers * self._context.mean)

    def room(self, law: StepLaw) -> float:
        """Sequences of batch beside which interactive requests keep their pace; at least 1.

        Each makes every step longer by its token, and by a prompt once in an answer's length.
        """
        each_s = law.answer_s(self._batch_context.mean) + law.per_token_s * self._prompts
        if not each_s:
            return inf
        return max((self._stretch - 1.0) * self.own_step_s(law) / each_s, 1.0)

    def few(self, queued_tokens: int, computed: float) -> int:
        """Prompt tokens that a step computes of those in the engine that give way; 0: no limit.

        Args:
            queued_tokens: those that are queued there,
            computed: and of these, what steps have computed.
        """
        return min(self._newest.at(computed), queued_tokens)

    def slower(self, computed: float) -> float | None:
        """How many times as long these take as a prompt's first; None where that is not told."""
        return self._newest.slower(computed)

    def step_tokens(self, law: StepLaw) -> int:
        """Prompt tokens of batch that a step computes where no interactive prompt is in it."""
        most = round(_MOST_OF_A_STEP * self._step_tokens)
        tokens = self.room(law) * self._prompts if self._prompts else inf
        return most if tokens >= most else max(round(tokens), min(LEAST_TOKENS, most))

    def tokens_of(self, token_s: float, own_step_s: float) -> int:
        """The same of a prompt whose tokens take so long, beside steps that do without it."""
        allowed_s = (self._stretch - 1.0) * own_step_s
        return max(round(allowed_s / token_s), LEAST_TOKENS)

    def steps_aside(self, ticket: Ticket) -> None:
        """An interactive request that gives way enters."""
        self._newest = _Limit.of(ticket)

    @property
    def _prompts(self) -> float:
        """Prompt tokens per step that one sequence of batch in the engine stands for."""
        return self._batch_prompt.mean / max(self._batch_answer.mean, 1.0)

    def may_enter(self, ticket: Ticket, place: Place, law: StepLaw, now: float) -> bool:
        """Whether a held ticket may enter the engine at `now` (s)."""
        if not place.occupied:
            return True
        if place.ahead_sequences and not self._may_go_beside(ticket, place, law, now):
            return False
        if not self.shares(now) or not place.batch:
            return True
        return self.is_urgent(ticket, now) or (
            place.batch + ticket.cost.sequences <= self.room(law)
        )

    def is_urgent(self, ticket: Ticket, now: float) -> bool:
        """Whether a held ticket is about to be late at `now` (s)."""
        return now > ticket.due_at - _URGENT * ticket.budget_s

    def _may_go_beside(self, ticket: Ticket, place: Place, law: StepLaw, now: float) -> bool:
        """Whether prompts may be in the engine with those that go before them."""
        if self.shares(now):
            return place.ahead_tokens < self._ahead_steps * self.step_tokens(law)
        tokens = min(ticket.cost.prefill_tokens, ticket.cost.sequences * self._step_tokens)
        return tokens + place.ahead_tokens <= _ALONE_STEPS * self._step_tokens

    def check_integrity(self) -> None:
        """Raise AssertionError when the books do not agree."""
        self.held.check_integrity()
        assert self.entry_rate.rate >= 0.0


def _attended(cost: Cost) -> float:
    """Tokens that each of its answers attends to: its prompt, and half of itself, in the mean."""
    half = 0.5 * cost.output_tokens / cost.sequences
    return cost.prefill_per_sequence + cost.cached_per_sequence + half
