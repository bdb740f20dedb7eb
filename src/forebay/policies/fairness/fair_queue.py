"""Fairness: a tag for each request, so that tenants and classes share tokens by weight.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): a request's tag is the virtual time
at which its flow is due, `max(now in virtual time, end of the flow's request before)`, and the
engine serves the smallest tag first. Virtual time is the tag last taken into service, so it needs
no knowledge of how fast the engine is, and a flow that was idle begins at the present: it has saved
up nothing.

There are two levels, classes and in each class its tenants, and one order, since vLLM's queue takes
one number on arrival and never asks again. A flow's weight is the class's weight times the tenant's
share of its class; `price_list.py` says how a share is fixed while tenants come and go. What is
guaranteed (decision 0010):

- two tenants of a class that both wait get tokens by weight, to within one request of each, at all
  times, whoever else comes or goes;
- so do two classes, to within one request of each of their tenants, except among requests that were
  queued before the set of waiting tenants changed;
- a tag fits the 63 bits of vLLM's priority, whatever the weights and however long the queue is
  never empty: virtual time is exact and without limit, its tag a number of 58 significant bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from forebay.policies.fairness.price_list import PriceList

# Units of virtual time per token of the lightest class. So many, since prices differ: in a class a
# million times as heavy, where a tenant of weight 0.001 is alone at first, a token of one of weight
# 1,000 that comes then is one unit.
UNITS = 2**40
LAST_TAG = 2**63 - 1
# Significant bits of a tag; the other five count 62 shifts, so tags end at 2^120: 10^18 tokens of a
# tenant of weight 0.001 that are priced as if one of weight 1,000 were always there, which makes
# each a million. After ten years at 10,000 tokens/s a tag resolves 1/45,000 token, or 22 of those.
_TAG_BITS = 58
_FORGET_AFTER_S = 600.0  # longer than any deadline: nothing of the flow is queued any more


def tag_at(time: int) -> int:
    """Virtual time as a tag: itself while it has few bits, then its first bits and their place.

    The order is kept: a later time never has a smaller tag. As of floating point numbers, what a
    tag resolves is a part of the time itself, 2^-57 of it.
    """
    shift = max(time.bit_length() - _TAG_BITS, 0)
    return min((shift << (_TAG_BITS - 1)) + (time >> shift), LAST_TAG)


def time_of(tag: int) -> int:
    """The earliest virtual time with this tag."""
    shift = max((tag >> (_TAG_BITS - 1)) - 1, 0)
    return (tag - (shift << (_TAG_BITS - 1))) << shift


@dataclass(slots=True)
class _Flow:
    """One tenant in one class, in units of service.

    Attributes:
        latest: start of the request that was tagged last.
        finish: where its next request starts, unless the present is past that.
        weight: its weight when it was tagged last.
        touched_at: seconds on the caller's clock.
    """

    latest: int
    finish: int
    weight: float
    touched_at: float

    def is_over(self, present: int, now: float) -> bool:
        """Whether virtual time has passed it, or it was idle for long: it tells nothing then."""
        return self.finish <= present or self.touched_at < now - _FORGET_AFTER_S


@dataclass(slots=True)
class _Class:
    """One class: its weight over that of the lightest, its prices, and flows not yet passed."""

    weight: float
    prices: PriceList = field(default_factory=PriceList)
    flows: dict[str, _Flow] = field(default_factory=dict)

    def drop_passed(self, present: int, now: float) -> None:
        """Flows that are over are dropped."""
        stale = now - _FORGET_AFTER_S
        gone = [  # `is_over`, written out: it is asked of every flow for each request
            tenant
            for tenant, flow in self.flows.items()
            if flow.finish <= present or flow.touched_at < stale
        ]
        for tenant in gone:
            del self.flows[tenant]

    def price(self, weight: float) -> float:
        """Virtual time per unit of service while flows of this weight together are active."""
        return weight / self.weight


class FairQueue:
    """Tags requests of one replica. Deterministic; tags are ints that never wrap."""

    def __init__(
        self, class_weights: Mapping[str, float], tenant_weights: Mapping[str, float] | None = None
    ) -> None:
        """Share by these weights, all above 0; a tenant that is not named weighs 1."""
        lightest = min(class_weights.values())
        self._classes = {name: _Class(w / lightest) for name, w in class_weights.items()}
        self._weights = dict(tenant_weights or {})
        self._time = 0

    @property
    def virtual_time(self) -> int:
        """The present, as a tag."""
        return tag_at(self._time)

    def set_weights(self, tenant_weights: Mapping[str, float]) -> None:
        """Use other weights of tenants from the next tag on."""
        self._weights = dict(tenant_weights)

    def tag(self, tenant: str, class_name: str, cost_tokens: int, now: float) -> int:
        """The tag of a request that arrived at `now` (s) and should cost `cost_tokens` in all.

        Smaller tags go first, equal ones by arrival. Fits vLLM's `priority`.
        """
        one = self._classes[class_name]
        flow = self._flow(one, tenant, now)
        flow.latest = flow.finish
        self._sell_gap(one, flow)
        flow.finish = flow.latest + ceil(max(cost_tokens, 1) * UNITS / flow.weight)
        one.prices.sell_to(flow.finish, one.price(sum([f.weight for f in one.flows.values()])))
        return self._tag_at(one, flow.latest)

    def preview(self, tenant: str, class_name: str, now: float = 0.0) -> int:
        """The tag that a request would get at `now` (s); nothing changes."""
        one = self._classes[class_name]
        one.prices.pass_to(self._time)  # or prices are rounded otherwise than those of the tag
        present = one.prices.service_at(self._time)
        flow = one.flows.get(tenant)
        due = flow.finish if flow is not None and not flow.is_over(present, now) else present
        beyond = due - max(one.prices.end, present)
        if beyond <= 0:
            return self._tag_at(one, due)
        # It was charged ahead of everything sold; see `_sell_gap`.
        others = sum(
            other.weight
            for other in one.flows.values()
            if other is not flow and not other.is_over(present, now)
        )
        price = one.price(others or self._weights.get(tenant, 1.0))
        return tag_at(max(one.prices.end_time, self._time) + max(ceil(beyond * price), 1))

    def _tag_at(self, one: _Class, service: int) -> int:
        """The tag of a request that is due at this service; rounding puts none in the past."""
        return tag_at(max(one.prices.time_at(service), self._time))

    def rooms_before(self, tag: int, flows: Iterable[tuple[str, str]]) -> list[float]:
        """Tokens that flows can still put before a request with this tag, however much they ask.

        Args:
            tag: the request's.
            flows: each a tenant and its class.
        """
        then, now = time_of(tag), self._time
        marks = {
            name: (one.flows, one.prices.service_at(then), one.prices.service_at(now))
            for name, one in self._classes.items()
        }
        weights, rooms = self._weights, []
        for tenant, class_name in flows:  # of every active flow, at each decision
            active, end, present = marks[class_name]
            flow = active.get(tenant)
            due = present if flow is None or flow.finish < present else flow.finish
            rooms.append((end - due) * weights.get(tenant, 1.0) / UNITS if due < end else 0.0)
        return rooms

    def weights_of(self, flows: Sequence[tuple[str, str]]) -> list[float]:
        """Weights of flows that are all active: a class's is divided among its tenants."""
        weights = self._weights
        of_class: dict[str, float] = {}
        for tenant, name in flows:
            of_class[name] = of_class.get(name, 0.0) + weights.get(tenant, 1.0)
        each = {name: self._classes[name].weight / total for name, total in of_class.items()}
        return [each[name] * weights.get(tenant, 1.0) for tenant, name in flows]

    def started(self, tag: int) -> None:
        """The engine has taken the request with this tag into service."""
        self._time = max(self._time, time_of(tag))

    def nothing_waits(self) -> None:
        """The queue is empty: nobody is kept waiting by anybody, so nobody owes anything.

        This is the end of Goyal's busy period, where virtual time goes to the largest finish tag.
        An engine runs many requests at once, so it comes when none waits, not when none runs.
        """
        for one in self._classes.values():
            self._time = max(self._time, one.prices.end_time)
            one.flows.clear()

    def correct(self, tenant: str, class_name: str, tokens: float, now: float) -> None:
        """Charge a flow `tokens` more (or fewer, below 0) than its requests were tagged for.

        What is given back never reaches behind the present or behind a tag already given, so no
        flow collects credit and none overtakes itself.
        """
        one = self._classes[class_name]
        if tokens > 0 or tenant in one.flows:
            flow = self._flow(one, tenant, now)
            present = one.prices.service_at(self._time)
            due = flow.finish + ceil(tokens * UNITS / flow.weight)
            flow.finish = max(due, flow.latest, present)

    def served_elsewhere(
        self, class_name: str, tokens: Mapping[str, float], most_tokens: float, now: float
    ) -> None:
        """Charge tenants for tokens that other replicas gave them (see `fleet_fairness.py`).

        Args:
            class_name: the class in which they were served.
            tokens: by tenant.
            most_tokens: what this replica serves of the class in a few exchanges: nobody falls
                further behind the present than that, so that old service elsewhere is forgotten.
            now: seconds on the caller's clock.
        """
        if not tokens:
            return
        one = self._classes[class_name]
        begins = {}
        for tenant, amount in tokens.items():
            flow = self._flow(one, tenant, now)
            begins[tenant] = (flow.finish + ceil(amount * UNITS / flow.weight), flow.weight)
        bound = self._after(one, most_tokens, begins)
        for tenant, (begin, _) in begins.items():
            flow = self._flow(one, tenant, now)  # one that was not active is dropped until now
            flow.finish = max(flow.finish, min(begin, bound))

    def _after(self, one: _Class, tokens: float, charged: Mapping[str, tuple[int, float]]) -> int:
        """The service at which a class will be when it has served so many tokens.

        The flows that are not charged are served meanwhile, by weight, and each that is from where
        it was charged to. Where nobody waits but those, whoever they were charged for is
        still to come, and is taken to weigh as little as the lightest of them.

        Args:
            one: the class.
            tokens: that it serves.
            charged: where these flows of it begin, and their weights.
        """
        others = sum(flow.weight for tenant, flow in one.flows.items() if tenant not in charged)
        weight = others or min(weight for _, weight in charged.values())
        reached, left = one.prices.service_at(self._time), tokens * UNITS
        for start, its_weight in sorted(charged.values()):
            if (start - reached) * weight >= left:
                break
            left -= (start - reached) * weight
            reached, weight = start, weight + its_weight
        return reached + ceil(left / weight)

    def _flow(self, one: _Class, tenant: str, now: float) -> _Flow:
        """The tenant's flow, ending at the present or later; drops all that are passed."""
        one.prices.pass_to(self._time)
        present = one.prices.service_at(self._time)
        one.drop_passed(present, now)
        weight = self._weights.get(tenant, 1.0)
        flow = one.flows.setdefault(tenant, _Flow(present, present, weight, now))
        flow.weight, flow.touched_at = weight, now
        return flow

    def _sell_gap(self, one: _Class, flow: _Flow) -> None:
        """Price what lies before a flow that was charged ahead of everything sold.

        The others fill that gap, so it costs their weight; with nobody else the class itself owes.
        """
        others = sum([other.weight for other in one.flows.values() if other is not flow])
        one.prices.sell_to(flow.latest, one.price(others or flow.weight))

    def check_integrity(self) -> None:
        """Flows and prices are consistent.

        Raises:
            AssertionError: they are not.
        """
        assert 0 <= self.virtual_time <= LAST_TAG
        for one in self._classes.values():
            one.prices.check_integrity()
            for flow in one.flows.values():
                assert flow.latest <= flow.finish
                assert flow.weight > 0

    def __repr__(self) -> str:
        flows = {name: len(one.flows) for name, one in self._classes.items()}
        return f"<FairQueue virtual time {self.virtual_time}, flows {flows}>"
