"""Who will still go ahead of a request that has come to wait.

Its place is fixed by its tag, and what stands before it is known. Others may still arrive with
smaller tags: flows that have had less than their share. How much they can put before it is bounded
by fairness itself, and how much they will by what they have been asking for lately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.policies.fairness.fair_queue import FairQueue
from forebay.policies.request import Cost

Flow = tuple[str, str]  # tenant, class

_HALF_LIFE_S = 1.0
_FORGOTTEN_TOKENS = 1.0
_LN2 = 0.6931471805599453
_MOST_FLOWS = 64  # looked through for forgotten ones beyond
_MOST_HALVINGS = 500.0  # 2 to the power of twice this is still a number
_SHORTEST = 4  # one half-life in so many: a burst is not taken for a flow of its own pace
_GROWN = 8.0  # half-lives after which a flow's age makes no difference


# A flow that goes ahead of a request for a while: seconds after which it has put there all that
# fairness lets it, and prompt tokens/s and sequences/s that it asks for. A plain tuple, since each
# decision makes one for every active flow.
Rival = tuple[float, float, float]


@dataclass(slots=True)
class _Asked:
    """What a flow asked for. Amounts are as at `Arrivals._since`.

    Attributes:
        first_at: its first request that still counts, in seconds.
        requests: those since.
        prefill, output: prompt tokens to compute, and tokens of answers.
        tokens: all, those of prompts in the cache included.
    """

    first_at: float
    requests: int = 0
    prefill: float = 0.0
    sequences: float = 0.0
    output: float = 0.0
    tokens: float = 0.0

    def scale(self, factor: float) -> None:
        """All amounts so many times as large."""
        self.prefill *= factor
        self.sequences *= factor
        self.output *= factor
        self.tokens *= factor

    def seen_share(self, half_life_s: float, now: float) -> float:
        """The share that it can have shown by now of what it would, had it always asked.

        n requests in so many seconds span n - 1 gaps; the one before the first belongs to them too.
        """
        age_s, count = now - self.first_at, self.requests
        spanned_s = age_s * count / (count - 1) if count > 1 else 0.0
        return 1.0 - float(0.5 ** max(spanned_s / half_life_s, 1 / min(count, _SHORTEST)))


class Arrivals:
    """What each flow was admitted for lately, per second.

    Amounts are kept as if they had come at `_since` and are decayed all at once when they are read:
    each request reads those of every flow. A flow that began a moment ago is judged by that moment
    and not as if it had been silent before.
    """

    def __init__(self, half_life_s: float = _HALF_LIFE_S) -> None:
        """Forget what came `half_life_s` ago by half."""
        self._half_life_s = half_life_s
        self._flows: dict[Flow, _Asked] = {}
        self._since = 0.0

    def add(self, flow: Flow, cost: Cost, now: float) -> None:
        """A request of the flow was admitted at `now` (s)."""
        if abs(now - self._since) > _MOST_HALVINGS * self._half_life_s:
            self._rebase(now)
        grown = 1.0 / self._decay(now)
        one = self._flows.get(flow)
        if one is None or one.tokens < _FORGOTTEN_TOKENS * grown:
            one = self._flows[flow] = _Asked(now)
        one.requests += 1
        one.prefill += cost.prefill_tokens * grown
        one.sequences += cost.sequences * grown
        one.output += cost.output_tokens * grown
        one.tokens += cost.tokens * grown
        if len(self._flows) > _MOST_FLOWS:
            self._forget(now)

    def rates(self, now: float) -> list[tuple[Flow, float, float, float]]:
        """Every flow with its prompt tokens/s to compute, sequences/s and tokens/s in all."""
        return [
            (flow, one.prefill * scale, one.sequences * scale, one.tokens * scale)
            for flow, one, scale in self._scaled(now)
        ]

    def outputs(self, now: float) -> list[tuple[Flow, float]]:
        """Every flow with the tokens of answers that it asks for, per second."""
        return [(flow, one.output * scale) for flow, one, scale in self._scaled(now)]

    def _scaled(self, now: float) -> list[tuple[Flow, _Asked, float]]:
        """Every flow with what makes a rate of its amounts."""
        whole, half_life_s = self._decay(now) * _LN2 / self._half_life_s, self._half_life_s
        grown_at = now - _GROWN * half_life_s
        return [
            (flow, one, whole)
            if one.first_at < grown_at
            else (flow, one, whole / one.seen_share(half_life_s, now))
            for flow, one in self._flows.items()
        ]

    def busiest(self, class_name: str) -> str:
        """The tenant that asks for most in a class; empty when nobody has asked."""
        asked = [
            (one.tokens, tenant)
            for (tenant, name), one in self._flows.items()
            if name == class_name
        ]
        return max(asked)[1] if asked else ""

    def _decay(self, now: float) -> float:
        halvings = (now - self._since) / self._half_life_s
        return float(0.5 ** min(max(halvings, -_MOST_HALVINGS), 2 * _MOST_HALVINGS))

    def _rebase(self, now: float) -> None:
        decay = self._decay(now)
        self._forget(now)
        for one in self._flows.values():
            one.scale(decay)
        self._since = now

    def _forget(self, now: float) -> None:
        least = _FORGOTTEN_TOKENS / self._decay(now)
        for flow in [flow for flow, one in self._flows.items() if one.tokens < least]:
            del self._flows[flow]


def rivals(fair: FairQueue, arrivals: Arrivals, flow: Flow, tag: int, now: float) -> list[Rival]:
    """The flows that may still overtake a request, those first that will have done so first.

    Args:
        fair: whose tags decide.
        arrivals: what flows have been asking for.
        flow: the request's own: it never overtakes itself.
        tag: the request's.
        now: seconds.
    """
    if tag <= fair.virtual_time:
        return []  # it is next
    rates = [one for one in arrivals.rates(now) if one[0] != flow]
    if not rates:
        return []
    rooms = fair.rooms_before(tag, [other for other, *_ in rates])
    found = [
        (room / tokens, prefill, sequences)
        for room, (_, prefill, sequences, tokens) in zip(rooms, rates, strict=True)
        if room > 0 and tokens > 0
    ]
    found.sort()
    return found


def prolonged(wait_s: float, shares: Sequence[tuple[float, float]]) -> float:
    """A wait of `wait_s` with what comes ahead while it lasts, in seconds.

    What comes makes the wait longer, and so more comes: the answer is where the two agree. Each
    comes for as long as it may, at most; together they may ask for more than there is.

    Args:
        wait_s: for what is ahead already.
        shares: (seconds for which it may come, seconds of work that come in a second), the
            shortest first.
    """
    asked = sum([share for _, share in shares])
    for until_s, share in shares:
        if asked < 1.0 and wait_s <= until_s * (1.0 - asked):
            break
        wait_s, asked = wait_s + until_s * share, asked - share
    else:
        return wait_s
    return wait_s / (1.0 - asked)
