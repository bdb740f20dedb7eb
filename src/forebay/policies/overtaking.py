"""Who will still go ahead of a request that has come to wait.

Its place is fixed by its tag, and what stands before it is known. Others may still arrive with
smaller tags: flows that have had less than their share. How much they can put before it is bounded
by fairness itself, and how much they will by what they have been asking for lately.
"""

from __future__ import annotations

from collections.abc import Iterable

from forebay.policies.fairness import FairQueue

Flow = tuple[str, str]  # tenant, class

_HALF_LIFE_S = 1.0
_FORGOTTEN_TOKENS = 1.0
_LN2 = 0.6931471805599453
_ROUNDS = 2  # of the fixed point below; each further one changes a wait by under a tenth


class Arrivals:
    """Prompt tokens/s that each flow was admitted for lately."""

    def __init__(self) -> None:
        self._flows: dict[Flow, tuple[float, float]] = {}  # decayed tokens, as of when

    def add(self, flow: Flow, tokens: int, now: float) -> None:
        """A request of the flow was admitted at `now` (s)."""
        self._flows[flow] = (self._at(flow, now) + tokens, now)
        if len(self._flows) > 64:
            self._forget(now)

    def rates(self, now: float) -> Iterable[tuple[Flow, float]]:
        """Every flow with its rate, tokens/s."""
        return [(flow, self._at(flow, now) * _LN2 / _HALF_LIFE_S) for flow in self._flows]

    def _at(self, flow: Flow, now: float) -> float:
        tokens, seen_at = self._flows.get(flow, (0.0, now))
        return float(tokens * 0.5 ** (max(now - seen_at, 0.0) / _HALF_LIFE_S))

    def _forget(self, now: float) -> None:
        for flow in [f for f in self._flows if self._at(f, now) < _FORGOTTEN_TOKENS]:
            del self._flows[flow]


def expected_overtaking(
    fair: FairQueue,
    arrivals: Arrivals,
    *,
    flow: Flow,
    tag: int,
    ahead_tokens: int,
    drain_rate: float,
    now: float,
) -> float:
    """Prompt tokens that other flows are expected to put before a request while it waits.

    Args:
        fair: whose tags decide.
        arrivals: what flows have been asking for.
        flow: the request's own: it never overtakes itself.
        tag: the request's.
        ahead_tokens: what stands before it already.
        drain_rate: prompt tokens/s that the engine takes up (> 0).
        now: seconds.
    """
    others = [
        (rate, room)
        for other, rate in arrivals.rates(now)
        if other != flow and rate > 0 and (room := fair.room_before(tag, *other)) > 0
    ]
    extra = 0.0
    for _ in range(_ROUNDS if others else 0):
        wait_s = (ahead_tokens + extra) / drain_rate
        extra = sum(min(room, rate * wait_s) for rate, room in others)
    return extra
