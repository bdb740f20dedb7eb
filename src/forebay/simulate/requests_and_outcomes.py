"""What is asked of a simulated fleet, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from forebay.policies.request import INTERACTIVE
from forebay.policies.routing import Prompt
from forebay.workload import Row

HowItEnded = Literal["open", "ok", "shed", "deadline", "no_replica"]


@dataclass(frozen=True, slots=True)
class SimRequest:
    """One request.

    Attributes:
        number: unique; its place in the order of time.
        at_s: when it is sent, seconds.
        prompt: tokens.
        answer: tokens after which its answer ends by itself.
        max_tokens: the client's limit on the answer; None when it sets none.
        ids: the prompt's tokens; without them no two prompts begin alike.
        answer_ids: the answer's, if a later prompt may go on from it.
        text: what a router reads of it; None: nothing but its size.
        salt: prompts share cached blocks only within one.
        class_name: its class.
        tenant: whose it is; empty in open mode.
    """

    number: int
    at_s: float
    prompt: int
    answer: int
    max_tokens: int | None = None
    ids: Sequence[int] = ()
    answer_ids: Sequence[int] = ()
    text: Prompt | None = None
    salt: str | None = None
    class_name: str = INTERACTIVE
    tenant: str = ""


@dataclass(slots=True)
class Outcome:
    """What became of a request; times in seconds, None for what never happened.

    Attributes:
        ask: the request.
        outcome: `open` until it has ended.
        replica: which took or refused it.
        promised: tokens of its prompt that the router expected to be cached there.
        cached: those that were; None before its first token.
        reason: why it was shed, in admission's words.
        first_at: when its first token came.
        ended_at: when its answer, or it, ended.
        tokens: of the answer.
    """

    ask: SimRequest
    outcome: HowItEnded = "open"
    replica: str = ""
    promised: int = 0
    cached: int | None = None
    reason: str = ""
    first_at: float | None = None
    ended_at: float | None = None
    tokens: int = 0

    def end(self, outcome: HowItEnded, now: float) -> None:
        """It is over.

        Raises:
            RuntimeError: it was over before.
        """
        if self.outcome != "open":
            raise RuntimeError(f"request {self.ask.number} ends twice: {self.outcome}, {outcome}")
        self.outcome, self.ended_at = outcome, now

    @property
    def ttft_s(self) -> float | None:
        """Seconds from its sending to its first token."""
        return None if self.first_at is None else self.first_at - self.ask.at_s

    @property
    def tpot_s(self) -> float | None:
        """Seconds per output token after the first; None for answers of one token."""
        if self.first_at is None or self.ended_at is None or self.tokens < 2:
            return None
        return (self.ended_at - self.first_at) / (self.tokens - 1)


@dataclass(frozen=True, slots=True)
class Slo:
    """What each request is promised, in seconds."""

    ttft_s: float
    tpot_s: float

    def holds(self, fate: Outcome) -> bool:
        """Whether a request was served within it."""
        if fate.outcome != "ok" or fate.ttft_s is None:
            return False
        return fate.ttft_s <= self.ttft_s and (fate.tpot_s or 0.0) <= self.tpot_s

    def attainment(self, fates: Sequence[Outcome]) -> float:
        """Share of all that was offered that was served within it; what was shed was not."""
        return sum(map(self.holds, fates)) / len(fates) if fates else 1.0


def asks_of(rows: Sequence[Row], max_tokens: int | None = None) -> list[SimRequest]:
    """The requests of a trace; what its prompts have in common is left out."""
    return [
        SimRequest(number, row.at_s, row.prompt_tokens, row.output_tokens, max_tokens)
        for number, row in enumerate(rows)
    ]
