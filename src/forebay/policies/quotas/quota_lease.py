"""A replica's part of the quotas: decides alone within its caps, reports what it uses and wants.

When the owner has not answered for `ALONE_AFTER_S`, a replica is *alone*: it keeps its caps, but
never more than an even share of the limit (limit / last known number of replicas), and after a
minute, when what others used beyond theirs has left the window, its cap is that even share. Silence
is the only sign: to be told of the loss sooner would change nothing, since the caps still hold. A
replica that never heard an owner, or none since there are quotas again, has no cap and refuses
tenants that have quotas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, inf

from forebay.policies.quotas.quota_terms import (
    ALONE_AFTER_S,
    BIN_S,
    BINS,
    EVEN_AFTER_S,
    PERIOD_S,
    WINDOW_S,
    Key,
    LeaseGrant,
    LeaseRequest,
    Quota,
    QuotaDemand,
    Refused,
    Resource,
    even_share,
    limits_of,
)

_LEAST_GAP_S = PERIOD_S / 20  # between two reports, however much is refused
_MOVE_S = 2 * PERIOD_S  # for a cap to come from another replica
_URGENT = 20  # one part in so many of a limit: a cap that fell by more is told of at once
# Of a limit of so few slots for each replica, others miss at once what one does not use.
_FEW_SLOTS = 2
_KEEP = 0.9  # of what requests used and were expected to, for each that ended since


class _Window:
    """Tokens of the last minute, by the second; each second stays until all of it is past."""

    def __init__(self) -> None:
        self.use = 0
        self._seconds: dict[int, int] = {}

    def add(self, tokens: int, at: float) -> None:
        second = floor(at)
        self._seconds[second] = self._seconds.get(second, 0) + tokens
        self.use += tokens

    def take_back(self, tokens: int, charged_at: float) -> None:
        """Fewer were used than were charged then; what has left the window is past."""
        second = floor(charged_at)
        returned = min(tokens, self._seconds.get(second, 0))
        if returned:
            self._seconds[second] -= returned
            self.use -= returned

    def pass_to(self, now: float) -> None:
        while self._seconds and self._leaves_at(oldest := next(iter(self._seconds))) <= now:
            self.use -= self._seconds.pop(oldest)

    def seconds_until(self, most: int, now: float) -> float:
        """Seconds until no more than `most` tokens are in the window; infinite when never."""
        left = self.use
        if left <= most:
            return 0.0
        for second, tokens in self._seconds.items():
            left -= tokens
            if left <= most:
                return self._leaves_at(second) - now
        return inf

    def leaving(self, now: float) -> tuple[int, ...]:
        """Tokens that leave in each of the next `BINS` stretches of `BIN_S` seconds."""
        bins = [0] * BINS
        for second, tokens in self._seconds.items():
            place = int((self._leaves_at(second) - now) / BIN_S)
            bins[min(max(place, 0), BINS - 1)] += tokens
        return tuple(bins)

    def _leaves_at(self, second: int) -> float:
        return second + 1 + WINDOW_S


@dataclass(slots=True)
class _Holding:
    """One limit of one tenant, here.

    Attributes:
        limit: over the fleet.
        cap: most use here; set by the owner.
        fleet_use: use of all replicas when the owner said so last.
        fleet_leaving: when that leaves the minute.
        asked: admitted and refused since the last report.
        recent: the same in a typical period, forgotten by halves.
        each: what the largest of these requests takes.
        running: requests running, where those are limited.
        window: tokens of the last minute, where those are.
        expected: tokens that requests were expected to use, the latest counting most.
        used: tokens that the same requests used.
    """

    limit: int
    cap: int = 0
    fleet_use: int = 0
    fleet_leaving: tuple[int, ...] = ()
    asked: int = 0
    recent: int = 0
    each: int = 0
    running: int = 0
    window: _Window = field(default_factory=_Window)
    expected: float = 0.0
    used: float = 0.0

    @property
    def use(self) -> int:
        """Tokens of the last minute, or requests running: the other of the two is 0."""
        return self.window.use + self.running

    @property
    def excess(self) -> float:
        """By what factor requests use more than they are expected to; at least 1."""
        return self.used / self.expected if self.used > self.expected else 1.0


class QuotaLease:
    """Quotas of one replica."""

    def __init__(self, lessee: str, quotas: Mapping[str, Quota]) -> None:
        """Hold nothing yet; `lessee` names the replica in the fleet."""
        self.lessee = lessee
        self._holdings: dict[Key, _Holding] = {}
        self._retired: dict[Key, _Holding] = {}
        self._alone_from = inf  # unless the owner answers before
        self.set_quotas(quotas)
        self._number = 0
        self._requested_at = -inf
        self._urgent = True
        self._leaving = False
        self._lessees = self._rank = 0

    def set_quotas(self, quotas: Mapping[str, Quota]) -> None:
        """Other limits; caps and use of those that stay are kept.

        Of those that go, the use is kept: requests that were charged still run, and the limit may
        come back before they end. The cap is not, since the owner gives it to others.
        """
        limits = limits_of(quotas)
        if limits and not self._holdings:  # what was heard before is of another fleet by now
            self._alone_from = inf
        known = self._retired | self._holdings
        self._retired = {key: one for key, one in known.items() if key not in limits}
        for one in self._retired.values():  # and what the fleet used then says nothing later
            one.cap, one.fleet_use, one.fleet_leaving = 0, 0, ()
        self._holdings = {key: known.get(key, _Holding(0)) for key in limits}
        for key, limit in limits.items():
            self._holdings[key].limit = limit

    # --- deciding -------------------------------------------------------------------------

    def charge(self, tenant: str, tokens: int, most: int, least: int = 0) -> int:
        """Tokens to charge a request for that is expected to use `tokens`.

        By the factor by which the tenant's requests of late used more than they were expected to.
        Never above the limit for a guess, of that factor or of how long answers are: who is let in
        no more would never be found to use less.

        Args:
            tenant: whose it is.
            tokens: it is expected to use.
            most: it can use.
            least: it uses however short its answers are.
        """
        holding = self._holdings.get((tenant, "tokens"))
        if holding is None:
            return tokens
        guessed = max(tokens, min(round(tokens * holding.excess), most))
        return max(min(guessed, holding.limit), least)

    def try_spend(
        self,
        tenant: str,
        tokens: int,
        now: float,
        slots: int = 1,
        before: Refused | None = None,
    ) -> Refused | None:
        """Charge a request that arrived at `now`, or say why not and for how long; None: charged.

        Both limits are charged or neither; a charged request is ended with `ended`. Where the same
        request was refused `before`, what it asked for then is not counted again.
        """
        amounts: tuple[tuple[Resource, int], ...] = (("tokens", tokens), ("slots", slots))
        wanted = [
            (resource, amount, holding)
            for resource, amount in amounts
            if (holding := self._holdings.get((tenant, resource))) is not None
        ]
        for resource, amount, holding in wanted:
            if amount > holding.limit:  # and no part of the quota is moved here for it
                return Refused(resource, inf, ask_owner=False)
        counted_up_to = None if before is None else before.resource
        for resource, amount, holding in wanted:
            holding.window.pass_to(now)
            if counted_up_to is None:
                holding.asked += amount
                holding.each = max(holding.each, amount)
            elif counted_up_to == resource:
                counted_up_to = None
            if holding.use + amount > self._cap(holding, now):
                return self._refusal(resource, amount, holding, now)
        for resource, amount, holding in wanted:
            if resource == "tokens":
                holding.window.add(amount, now)
            else:
                holding.running += amount
        return None

    def limited(self, tenant: str) -> tuple[Resource, ...]:
        """What a request of the tenant is charged for now: whoever ends it undoes that alone."""
        resources: tuple[Resource, ...] = ("tokens", "slots")
        return tuple([one for one in resources if (tenant, one) in self._holdings])

    def _holding(self, key: Key) -> _Holding | None:
        return self._holdings.get(key) or self._retired.get(key)

    def ended(self, tenant: str, slots: int = 1) -> None:
        """A request that was charged a slot has ended, well or not."""
        holding = self._holding((tenant, "slots"))
        if holding is not None:
            holding.running = max(holding.running - slots, 0)
            self._urgent = self._urgent or holding.limit < _FEW_SLOTS * self._lessees

    def learn(self, tenant: str, expected: int, used: int) -> None:
        """A request that was expected to use so many tokens has used so many."""
        holding = self._holding((tenant, "tokens"))
        if holding is not None:
            holding.expected = holding.expected * _KEEP + expected
            holding.used = holding.used * _KEEP + used

    def settle(self, tenant: str, tokens: int, charged_at: float, now: float) -> None:
        """A request charged at `charged_at` used `tokens` more (or fewer, below 0) than charged."""
        holding = self._holding((tenant, "tokens"))
        if holding is None:
            return
        holding.window.pass_to(now)
        if tokens > 0:
            holding.window.add(tokens, now)
        else:
            holding.window.take_back(-tokens, charged_at)

    def alone(self, now: float) -> bool:
        """Whether the owner has been silent for so long that even shares hold."""
        return now >= self._alone_from

    def leave(self) -> None:
        """This replica stops: it spends nothing more, and its next report, due now, says so."""
        self._leaving = True
        self._requested_at = -inf

    def _cap(self, holding: _Holding, now: float) -> int:
        if self._leaving:
            return 0
        if not self.alone(now):
            return holding.cap
        even = self._even(holding)
        return even if now >= self._alone_from + EVEN_AFTER_S else min(holding.cap, even)

    def _even(self, holding: _Holding) -> int:
        return even_share(holding.limit, self._lessees, self._rank)

    def _refusal(self, resource: Resource, amount: int, holding: _Holding, now: float) -> Refused:
        fleet_use = max(holding.fleet_use, holding.use)
        has_room = fleet_use + amount <= holding.limit and not self.alone(now)
        self._urgent = self._urgent or has_room
        if has_room:
            return Refused(resource, _MOVE_S, ask_owner=True)
        if resource == "slots":  # nobody knows when a request will end
            return Refused(resource, PERIOD_S, ask_owner=False)
        here = holding.window.seconds_until(self._cap(holding, now) - amount, now)
        there = _seconds_until_left(holding.fleet_leaving, fleet_use + amount - holding.limit)
        return Refused(resource, max(min(here, there, WINDOW_S), PERIOD_S), ask_owner=False)

    # --- talking with the owner -----------------------------------------------------------

    def due_in(self, now: float) -> float:
        """Seconds until a report is due; 0 when one is."""
        gap = _LEAST_GAP_S if self._urgent else PERIOD_S
        return max(self._requested_at + gap - now, 0.0)

    def request(self, now: float) -> LeaseRequest | None:
        """The report to send now; None while none is due."""
        if self.due_in(now) > 0.0:
            return None
        elapsed = now - self._requested_at
        self._requested_at, self._urgent = now, False
        self._number += 1
        demands = tuple(self._demand(k, h, elapsed, now) for k, h in self._holdings.items())
        return LeaseRequest(self.lessee, self._number, demands, self._leaving, self._lessees)

    def granted(self, grant: LeaseGrant, now: float) -> None:
        """The owner has answered."""
        if grant.number != self._number:
            return  # an older report's: the owner counts with what this replica said since
        self._lessees, self._rank = grant.lessees, grant.rank
        self._alone_from = now + ALONE_AFTER_S
        for share in grant.shares:
            holding = self._holdings.get(share.key)
            if holding is not None:
                fell = holding.cap - share.cap
                self._urgent = self._urgent or fell > holding.limit // _URGENT  # others wait for it
                holding.cap, holding.fleet_use = share.cap, share.fleet_use
                holding.fleet_leaving = share.fleet_leaving

    def _demand(self, key: Key, holding: _Holding, elapsed: float, now: float) -> QuotaDemand:
        """What is used, held and wanted: room for what was asked lately, and for as much again.

        Not again of slots: those that are free here are missed elsewhere.
        """
        holding.window.pass_to(now)
        share_of_period = min(elapsed / PERIOD_S, 1.0)
        holding.recent = max(holding.asked, floor(holding.recent * 0.5**share_of_period))
        holding.asked, slots = 0, key[1] == "slots"
        if not holding.recent:
            holding.each = 0
        more = 0 if self._leaving else holding.recent * (1 if slots else 2)
        wanted = min(holding.use + more, holding.limit)
        held = max(self._cap(holding, now), holding.use)
        if self.alone(now) and not self._leaving:
            # It will have that in a minute, and may be heard though no answer reaches it.
            held = max(held, self._even(holding))
        leaving = () if slots else holding.window.leaving(now)
        return QuotaDemand(key, holding.use, held, wanted, leaving, holding.each)

    def __repr__(self) -> str:
        held = {"/".join(key): (one.use, one.cap) for key, one in self._holdings.items()}
        return f"<QuotaLease {self.lessee} (use, cap) {held}>"


def _seconds_until_left(leaving: tuple[int, ...], tokens: int) -> float:
    """Seconds until that many tokens have left, and room for them has moved here."""
    for place, amount in enumerate(leaving, 1):
        tokens -= amount
        if tokens <= 0:
            return place * BIN_S + _MOVE_S
    return inf
