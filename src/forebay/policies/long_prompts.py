"""How much longer than reckoned very long prompts take, from those that came true and those not.

Their tokens take longer than others' (each is compared with all before it), and whatever comes
meanwhile has its part of each of their steps. What few of them show would make the lateness that is
learned of everybody (`lateness.py`) a poor guide for both. One that is given up at its deadline
tells something too: it takes at least so long. Without that the next would be let in on the same
hope, and take as much of the engine for nothing.

What traffic does to them is forgotten in time. What one took on an engine of its own, as the
warm-up shows, is not.
"""

from __future__ import annotations

from math import ceil, sqrt

from forebay.policies.cost import Cost

_MANY_PARTS = 16  # two whole steps of nothing else, from which on a prompt is very long
_FADES_S = 600.0  # half of what was learned: under traffic, one may be tried again
_MOST_TIMES = 8.0
# How much was still to do of one that was given up, nobody knows. Taken to be nothing, the next
# would be let in as soon as a little of what was learned has faded.
_UNFINISHED = 1.5


class LongPrompts:
    """Learns the factor by which predictions for very long prompts are too short."""

    def __init__(self, part: int) -> None:
        """Nothing was seen; prompts are computed in parts of so many tokens beside others."""
        self._part = part
        self._alone: float | None = None  # the factor on an engine of its own
        self._times, self._as_of = 1.0, 0.0

    def parts(self, cost: Cost) -> int:
        """Steps that the longest of a request's prompts takes beside others; 0 if not very long."""
        parts = ceil(cost.prefill_per_sequence / self._part)
        return parts if parts >= _MANY_PARTS else 0

    def times(self, now: float) -> float:
        """What to multiply a very long prompt's own seconds with; at least 1."""
        halvings = max(now - self._as_of, 0.0) / _FADES_S
        least = self._alone or 1.0
        return least + (self._times - least) * float(0.5**halvings)

    def came_true(self, own_s: float, took_s: float, now: float) -> None:
        """Its own part of the wait took so long; by itself it was reckoned to take `own_s`."""
        if own_s > 0.0:
            seen = _within(took_s / own_s)
            times = seen if self._alone is None else sqrt(self.times(now) * seen)
            self._learn(max(times, self._alone or 1.0), now)

    def given_up(self, own_s: float, took_s: float, now: float) -> None:
        """No first token had come by then; before it could have, that says nothing."""
        if took_s > own_s > 0.0:
            self._learn(max(self.times(now), _within(_UNFINISHED * took_s / own_s)), now)

    def was_alone(self) -> None:
        """What was seen so far was on an engine of its own."""
        self._alone = self._times

    def _learn(self, times: float, now: float) -> None:
        self._times, self._as_of = times, now

    def __repr__(self) -> str:
        return f"<LongPrompts {self._times:.2f} times as long as reckoned>"


def _within(times: float) -> float:
    return min(max(times, 1.0), _MOST_TIMES)
