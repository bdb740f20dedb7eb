"""How much longer than reckoned very long prompts take, from those that came true and those not.

Two things make them take longer than as many steps of usual prompts. Each of their tokens is
compared with all before it, which grows with their length: the warm-up shows that of one, on an
engine of its own, and it is not forgotten. And whatever comes meanwhile has its part of each of
their steps. What few of them show of that would make the lateness that is learned of everybody
(`lateness.py`) a poor guide for both. One that is given up at its deadline tells something too: it
takes at least so long. Without that the next would be let in on the same hope, and take as much of
the engine for nothing. What traffic does to them is forgotten in time.
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
    """Learns the factors by which predictions for very long prompts are too short."""

    def __init__(self, part: int) -> None:
        """Nothing was seen; prompts are computed in parts of so many tokens beside others."""
        self._part = part
        self._excess = 0.0  # that a token before them adds to a prompt's factor, in the mean
        self._times, self._as_of = 1.0, 0.0

    def parts(self, cost: Cost) -> int:
        """Steps that the longest of a request's prompts takes beside others; 0 if not very long."""
        parts = ceil(cost.prefill_per_sequence / self._part)
        return parts if parts >= _MANY_PARTS else 0

    def alone(self, cost: Cost) -> float:
        """What to multiply the time of as many usual tokens with, on an engine of its own.

        The mean token of a prompt is compared with half of it, and with all that was cached before:
        the time beyond the usual grows with the square of the length, the factor with the length.
        """
        return self.alone_of(_attended(cost))

    def alone_of(self, tokens: float) -> float:
        """The same of a prompt of so many tokens, none of them cached."""
        return _within(1.0 + self._excess * tokens)

    def measured(self, cost: Cost, usual_s: float, took_s: float) -> None:
        """One on an engine of its own took so long, and as many usual tokens take `usual_s`."""
        if usual_s > 0.0:
            self._excess = (_within(took_s / usual_s) - 1.0) / _attended(cost)

    def times(self, now: float) -> float:
        """What traffic multiplies a very long prompt's own seconds with; at least 1."""
        halvings = max(now - self._as_of, 0.0) / _FADES_S
        return 1.0 + (self._times - 1.0) * float(0.5**halvings)

    def came_true(self, own_s: float, took_s: float, now: float) -> None:
        """Its own part of the wait took so long; by itself it was reckoned to take `own_s`."""
        if own_s > 0.0:
            self._learn(sqrt(self.times(now) * _within(took_s / own_s)), now)

    def given_up(self, own_s: float, took_s: float, now: float) -> None:
        """No first token had come by then; before it could have, that says nothing."""
        if took_s > own_s > 0.0:
            self._learn(max(self.times(now), _within(_UNFINISHED * took_s / own_s)), now)

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._times = 1.0

    def _learn(self, times: float, now: float) -> None:
        self._times, self._as_of = times, now

    def __repr__(self) -> str:
        return f"<LongPrompts {self._times:.2f} times as long as reckoned>"


def _attended(cost: Cost) -> float:
    """Twice the tokens that a token of the longest prompt is compared with, in the mean."""
    return cost.prefill_per_sequence + 2.0 * cost.cached_per_sequence


def _within(times: float) -> float:
    return min(max(times, 1.0), _MOST_TIMES)
