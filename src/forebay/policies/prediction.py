"""Predicted time to first token, as a sum of named waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds until a request's first token, by what it waits for.

    Attributes:
        ahead_s: prompt tokens queued ahead of it.
        own_s: its own prompt tokens.
        release_s: sequence slots or KV blocks to come free.
        overhead_s: learned correction.
    """

    ahead_s: float
    own_s: float
    release_s: float
    overhead_s: float

    @property
    def raw_s(self) -> float:
        """The model's part: prompts ahead are computed while slots come free."""
        return max(self.ahead_s, self.release_s) + self.own_s

    @property
    def total_s(self) -> float:
        """What the decision uses."""
        return self.raw_s + self.overhead_s


@dataclass(frozen=True, slots=True)
class Wait:
    """What must come free before a request can start: sequence slots and KV tokens (<= 0: none)."""

    slots: int
    kv_tokens: int


def release_wait(
    wait: Wait,
    running: Sequence[tuple[float, int]],
    *,
    total_tokens: float,
    capacity: int,
) -> float:
    """Decode steps until enough of the running answers have ended.

    Args:
        wait: what is needed.
        running: per running answer its (expected remaining tokens, KV footprint in tokens).
        total_tokens: length of a typical answer, for waits that outlast everything now running.
        capacity: sequences the engine runs at once.

    Returns:
        Output tokens that every running sequence still makes before the request can start; each
        takes one TPOT.
    """
    if wait.slots <= 0 and wait.kv_tokens <= 0:
        return 0.0
    slots, kv_tokens, steps = wait.slots, wait.kv_tokens, 0.0
    for remaining, footprint in sorted(running):
        steps = max(remaining, 1.0)
        slots -= 1
        kv_tokens -= footprint
        if slots <= 0 and kv_tokens <= 0:
            return steps
    # Everything that runs now has ended and it is not enough: from then on slots come free at the
    # steady pace of a full engine, one every `total_tokens / capacity` steps (Little's law).
    return steps + max(slots, 1) * total_tokens / capacity
