"""How much longer than reckoned very long prompts take, from those that came true and those not.

Two things make them take longer than as many steps of usual prompts. Each of their tokens is
compared with all before it, which grows with their length: the warm-up shows that of one, on an
engine of its own, and it is not forgotten. And whatever comes meanwhile has its part of each of
their steps. What few of them show of that would make the lateness that is learned of everybody
(`error_bound.py`) a poor guide for both. What traffic does to them is forgotten in time.

One that is given up at its deadline tells something too: it takes at least so long. Without that
the next would be let in on the same hope, and be computed in vain. But how long it would have taken
is a guess, and what held it up may be over; where the guess keeps others out, nobody comes who
could correct it. So half of it is forgotten in half a minute, which is what one attempt may cost,
and in twice as long each time that one let in later is given up as well: up to ten minutes, as with
what was seen. Time in which it waited for others, or in which the engine stood still, does not
count: that says nothing of how long prompts take.
"""

from __future__ import annotations

from math import ceil, sqrt
from typing import NamedTuple

from forebay.policies.request import Cost

_MANY_PARTS = 16  # two whole steps of nothing else, from which on a prompt is very long
_FADES_S = 600.0  # half of what was seen: under traffic, one may be tried again
_FORGOTTEN = 1.05
_GUESS_FADES_S = 30.0  # half of what one that was given up lets guess
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
        self.forget()

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
        return max(self._seen.at(now), self._guess.at(now))

    def came_true(self, own_s: float, took_s: float, now: float) -> None:
        """Its own part of the wait took so long; by itself it was reckoned to take `own_s`."""
        if own_s > 0.0:
            times = sqrt(self.times(now) * _within(took_s / own_s))
            self._seen, self._guess = _Fading(times, now, _FADES_S), _NOTHING

    def given_up(self, own_s: float, took_s: float, now: float) -> None:
        """No first token had come by then; before it could have, that says nothing.

        Args:
            own_s: reckoned for its own prompts.
            took_s: for which it was computed, without what it waited for others or a stall.
            now: seconds.
        """
        if not took_s > own_s > 0.0:
            return
        guess, times = self._guess, _within(_UNFINISHED * took_s / own_s)
        fades_s = _GUESS_FADES_S
        if guess.at(now) > _FORGOTTEN:  # it was let in beside the one before, or in spite of it
            later = now - took_s >= guess.as_of
            fades_s = min(2.0 * guess.fades_s, _FADES_S) if later else guess.fades_s
        self._guess = _Fading(max(self.times(now), times), now, fades_s)

    def forget(self) -> None:
        """What came so far was no traffic."""
        self._seen = self._guess = _NOTHING


class _Fading(NamedTuple):
    """A factor whose excess over 1 is forgotten by half in so many seconds."""

    times: float
    as_of: float
    fades_s: float

    def at(self, now: float) -> float:
        """The factor so much later."""
        halvings = max(now - self.as_of, 0.0) / self.fades_s
        return 1.0 + (self.times - 1.0) * float(0.5**halvings)


_NOTHING = _Fading(1.0, 0.0, _FADES_S)


def _attended(cost: Cost) -> float:
    """Twice the tokens that a token of the longest prompt is compared with, in the mean."""
    return cost.prefill_per_sequence + 2.0 * cost.cached_per_sequence


def _within(times: float) -> float:
    return min(max(times, 1.0), _MOST_TIMES)
