"""One step of the engine, or several alike in a row."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt


@dataclass(frozen=True, slots=True)
class Step:
    """What a step computes and how long that takes.

    A step may stand for `count` steps in which the same sequences decode; the amounts are then
    those of the first.

    Attributes:
        started_at: seconds on the caller's clock.
        first_s: duration of the first of its steps, seconds.
        prefill_tokens: prompt tokens computed, recomputed ones included.
        prefill_pairs: pairs of such a token and a token that it attends to.
        decode_sequences: sequences that compute the next token of their answer.
        context_tokens: tokens that these attend to.
        preempted: sequences that lost their KV blocks for it.
        count: steps in a row that it stands for.
        longer_s: by how much each of them takes longer than the one before, seconds.
    """

    started_at: float
    first_s: float
    prefill_tokens: int
    prefill_pairs: int
    decode_sequences: int
    context_tokens: int
    preempted: int
    count: int = 1
    longer_s: float = 0.0

    @property
    def duration_s(self) -> float:
        """Seconds until its last token is there."""
        return _seconds(self.count, self.first_s, self.longer_s)

    @property
    def ends_at(self) -> float:
        """When its last token is there."""
        return self.started_at + self.duration_s

    def ends(self) -> list[float]:
        """When each of its `count` steps ends, and a token of every decoding sequence is there."""
        steps = range(1, self.count + 1)
        return [self.started_at + _seconds(n, self.first_s, self.longer_s) for n in steps]


def steps_begun_within(seconds: float, first_s: float, longer_s: float, most: int) -> int:
    """How many steps in a row begin in less than `seconds`: at least 1, for it has begun.

    Args:
        seconds: counted from the beginning of the first; may be infinite.
        first_s: duration of the first, seconds.
        longer_s: by how much each takes longer than the one before, less than 2 `first_s`.
        most: what to answer when it would be more.
    """
    if _seconds(most - 1, first_s, longer_s) < seconds:
        return most
    # n steps take first_s n + longer_s n (n - 1) / 2; solved for n, and rounded up with care.
    linear = first_s - longer_s / 2
    root = 2 * seconds / (linear + sqrt(linear * linear + 2 * longer_s * seconds))
    begun = max(1, ceil(root) - 1)
    while _seconds(begun, first_s, longer_s) < seconds:
        begun += 1
    return begun


def _seconds(count: int, first_s: float, longer_s: float) -> float:
    return count * first_s + longer_s * (count * (count - 1) // 2)
