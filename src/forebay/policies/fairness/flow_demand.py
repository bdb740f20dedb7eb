"""How many sequences flows want at once, by their own lengths.

Arrivals/s times the seconds that each stays (Little). What a request is expected to take is learned
of all flows together, so one with long answers would be thought to ask for less than it does, and
keep the others out with them; one with short answers for more, and keep slots idle. So each flow is
counted by how its own answers ended of late, and never for less than it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from forebay.policies.fairness.overtaking import Arrivals, Flow
from forebay.policies.request import Cost

_KEEP = 0.95  # weight that what is usual keeps at each answer that ends
_MOST_FLOWS = 64  # looked through for forgotten ones beyond


@dataclass(slots=True)
class _Usual:
    """Of a flow's sequences, in the mean: tokens of the answer, and of the cache at its end."""

    answer: float
    kv_tokens: float


class DemandOfFlow(NamedTuple):
    """What a flow asks for: sequences at once, and the KV tokens that each of them takes."""

    flow: Flow
    sequences: float
    kv_tokens: float


class FlowDemand:
    """What flows have been asking for lately, and how long their answers were."""

    def __init__(self, half_life_s: float) -> None:
        """Forget what was asked for `half_life_s` ago by half."""
        self._asked = Arrivals(half_life_s)
        self._usual: dict[Flow, _Usual] = {}

    def came(self, flow: Flow, cost: Cost, now: float) -> None:
        """A request was offered at `now` (s), whatever becomes of it."""
        self._asked.add(flow, cost, now)
        if flow not in self._usual:
            self._forget(now)
            each = 1.0 / cost.sequences
            self._usual[flow] = _Usual(each * cost.output_tokens, each * cost.kv_tokens)

    def ended(self, flow: Flow, answer: int, kv_tokens: int) -> None:
        """An answer of a flow has ended after so many tokens, with such a footprint."""
        if (one := self._usual.get(flow)) is not None:
            one.answer = _KEEP * one.answer + (1.0 - _KEEP) * answer
            one.kv_tokens = _KEEP * one.kv_tokens + (1.0 - _KEEP) * kv_tokens

    def by_flow(self, seconds_per_token: float, now: float) -> list[DemandOfFlow]:
        """What every flow asks for that asked lately."""
        found = []
        for flow, _, arrivals, _ in self._asked.rates(now):
            one = self._usual[flow]
            found.append(
                DemandOfFlow(flow, arrivals * one.answer * seconds_per_token, one.kv_tokens)
            )
        return found

    def kv_tokens(self, flow: Flow) -> float:
        """Those that a sequence of a flow usually takes by its end; 0 while unknown."""
        one = self._usual.get(flow)
        return one.kv_tokens if one is not None else 0.0

    def _forget(self, now: float) -> None:
        if len(self._usual) > _MOST_FLOWS:
            asking = {flow for flow, *_ in self._asked.rates(now)}
            self._usual = {flow: one for flow, one in self._usual.items() if flow in asking}
