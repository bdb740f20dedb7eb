"""What was let in: a ticket for each admitted request, and the sequences that are its answers.

A ticket is of a class, which is what its user was promised, and its prompts are in a *lane* of the
engine: in front, or behind, where they give way (`scheduling_hints.py`). Behind are those of batch,
and very long interactive ones (`own_time.py`), which step aside: their answers give way to nobody.

A sequence is *queued* until its first token, *running* after it, and *ended* once finished or
aborted. The sequences of a ticket that is held at the gate (`batch_pacing.py`) are queued, and not
yet in the engine.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal

from forebay.engine_model import SchedulingHints
from forebay.policies.request.cost import Cost
from forebay.policies.request.shared_prefixes import Chunks

SequenceState = Literal["queued", "running", "ended"]


@dataclass(slots=True, eq=False)
class Sequence:
    """One answer being made.

    Attributes:
        ticket: the request it belongs to.
        prompt: prompt tokens, estimated until `bind`.
        prefill: prompt tokens still to be computed (those not in the prefix cache).
        cap: most tokens it may generate.
        expected: tokens it is expected to end with.
        produced: tokens generated so far.
        computed: of its prompt, what the engine had probably computed when it left before its
            first token.
        bound: whether the engine has it, so that `prompt` is exact.
        chunks: those of its prompt that it may share; known with `bound`.
        apart: tokens of its prompt that are not counted with it: those of its chunks, and before
            they are known those that others are expected to hold.
        brought: of those chunks, the tokens that nobody in the engine held before it.
    """

    ticket: Ticket
    prompt: int
    prefill: int
    cap: int
    expected: float
    produced: int = 0
    computed: int = 0
    bound: bool = False
    state: SequenceState = "queued"
    chunks: Chunks = ()
    apart: int = 0
    brought: int = 0

    @property
    def in_parts(self) -> bool:
        """Whether its prompt has to be computed in parts."""
        return self.prefill > self.ticket.uncut

    @property
    def attended(self) -> int:
        """Twice the tokens before those of its prompt to be computed, added up over these."""
        return self.prefill * (2 * self.prompt - self.prefill)

    @property
    def marks(self) -> SchedulingHints:
        """What the engine's scheduler is told of it."""
        ticket = self.ticket
        return SchedulingHints(
            self.in_parts,
            ticket.gives_way,
            ticket.step_tokens,
            ticket.steps_aside,
            ticket.half_at,
        )

    @property
    def context(self) -> int:
        """Tokens that its next one attends to, whoever else holds them."""
        return self.prompt + self.produced

    @property
    def kv_tokens(self) -> int:
        """KV footprint by the time it ends, in tokens, without what is counted apart."""
        return self.prompt - self.apart + max(round(self.expected), self.produced)

    @property
    def footprint(self) -> int:
        """The same with what it brought: what there would be less in the cache without it."""
        return self.kv_tokens + self.brought


@dataclass(slots=True, eq=False)
class Ticket:
    """One admitted request and the promise made for it.

    Attributes:
        class_name: `interactive` or `batch`.
        tag: order in the engine's queue; smaller goes first (see `fair_queue.py`).
        cost: what admission charged for it.
        admitted_at: seconds on the caller's clock.
        asked_s: seconds before that in which it was decided on, of which its user knows too.
        budget_s: seconds within which the first token was promised, those of `asked_s` with them.
        grace_s: seconds after that for which nobody is refused for its sake.
        predicted_s: raw predicted seconds to the first token, without the learned correction.
        own_s: reckoned for its own prompts, without what traffic does to very long ones.
        ahead_s: seconds predicted before those.
        uncut: tokens up to which a prompt of its is computed in one go; a longer one in parts.
        steps_s: seconds to its first token by the engine's steps alone; None where more than they
            stood before it.
        tenant: whose it is; empty in open mode.
        held: whether it waits at the gate: its sequences are queued and not in the engine.
        gives_way: whether its prompts give way in the engine to those that do not.
        answers_give_way: whether its answers do, too.
        entered_at: when the engine received the first of its sequences.
        stalled_s: seconds for which the engine had stalled in all, by then.
        step_tokens: most prompt tokens that a step computes of it and its like; 0: no limit.
        half_at: place in a prompt at which a step computes half as many; 0: as many everywhere.
        cache_salt: it may share cached prefixes with requests of the same salt.
        sequences: its answers, in the order in which the engine receives them.
    """

    class_name: str
    tag: int
    cost: Cost
    admitted_at: float
    budget_s: float
    predicted_s: float
    tenant: str = ""
    grace_s: float = 0.0
    own_s: float = 0.0
    asked_s: float = 0.0
    ahead_s: float = 0.0
    uncut: int = sys.maxsize
    steps_s: float | None = None
    sequences: list[Sequence] = field(default_factory=list)
    first_token_at: float | None = None
    last_token_at: float | None = None
    closed: bool = False
    held: bool = False
    gives_way: bool = False
    answers_give_way: bool = False
    entered_at: float | None = None
    stalled_s: float = 0.0
    step_tokens: int = 0
    half_at: int = 0
    prompt_bytes: int = 0
    cache_salt: str | None = None

    @property
    def steps_aside(self) -> bool:
        """Whether it gives way only until its prompts are computed."""
        return self.gives_way and not self.answers_give_way

    @property
    def in_parts(self) -> bool:
        """Whether its longest prompt, as admission charged for it, is computed in parts."""
        return self.cost.prefill_per_sequence > self.uncut

    @property
    def due_at(self) -> float:
        """By when the first token was promised, on the caller's clock."""
        return self.admitted_at - self.asked_s + self.budget_s

    @property
    def kept_by(self) -> float:
        """By when it has its first token, if others have to be refused for it; likewise."""
        return self.due_at + self.grace_s

    @property
    def flow(self) -> tuple[str, str]:
        """Whose request it is: tenant and class."""
        return self.tenant, self.class_name

    @property
    def used_tokens(self) -> int:
        """Tokens of prompts taken up and answers so far: what its tenant was seen to use."""
        return sum(s.prompt + s.produced for s in self.sequences if s.produced)

    @property
    def spent_tokens(self) -> int:
        """The same with what was probably computed in vain: what its tenant pays for."""
        return self.used_tokens + sum(s.computed for s in self.sequences)

    @property
    def is_used_up(self) -> bool:
        """Whether the engine has every answer that was admitted, and some are not ended yet.

        A request may go to the engine again once its answers are ended, as for the next call of a
        tool.
        """
        return self.next_unbound() is None and any(s.state != "ended" for s in self.sequences)

    def next_unbound(self) -> Sequence | None:
        """The first sequence that the engine has not received yet."""
        return next((s for s in self.sequences if not s.bound and s.state == "queued"), None)
