"""The owner of the quotas: one for the fleet, moves caps to where the demand is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from forebay.policies.quotas.quota_terms import (
    ALONE_AFTER_S,
    EVEN_AFTER_S,
    PERIOD_S,
    SILENT_AFTER_S,
    WINDOW_S,
    Key,
    LeaseGrant,
    LeaseRequest,
    Quota,
    QuotaDemand,
    Share,
    limits_of,
)

_LEARN_S = 3 * PERIOD_S  # every replica has reported by then
_FORGOTTEN_AFTER_S = 300.0  # of silence: a replica that said no goodbye, but must be gone
# Of silence: a replica that lives is held to an even share by then, and no more is kept for it.
_HELD_AFTER_S = SILENT_AFTER_S + ALONE_AFTER_S + EVEN_AFTER_S
_PAST_AFTER_S = WINDOW_S + 1.0  # of silence: what a replica used that left is out of the minute
_KEPT_BACK = 2  # one part in so many of what nobody wants stays here, to be had at once


@dataclass(frozen=True, slots=True)
class Want:
    """What a replica uses and wants of a limit; a part is no use to it with no room for `each`."""

    use: int
    wanted: int
    each: int = 0


@dataclass(slots=True)
class _Lessee:
    """What is known of one replica.

    Attributes:
        number: of its last report.
        seen_at: when that came.
        told: replicas it may divide by when it is on its own: the fewest that it may have been
            told of; 0 while it cannot have been told.
        demands: its last report, by key.
        counted: the most that it may use, by key.
        leaving: whether it said goodbye: it will use nothing more.
    """

    number: int = -1
    seen_at: float = 0.0
    told: int = 0
    demands: dict[Key, QuotaDemand] = field(default_factory=dict)
    counted: dict[Key, int] = field(default_factory=dict)
    leaving: bool = False

    def is_silent(self, now: float) -> bool:
        """Whether it has been silent for so long that it may take itself to be alone."""
        return now - self.seen_at > SILENT_AFTER_S

    def even(self, limit: int) -> int:
        """The most that its even share of a limit may be."""
        return -(-limit // self.told) if self.told else 0

    def is_past(self, now: float) -> bool:
        """Whether it is gone, and what it used has left the minute."""
        return now - self.seen_at > (_PAST_AFTER_S if self.leaving else _FORGOTTEN_AFTER_S)


class QuotaOwner:
    """Grants caps whose sum never exceeds a limit.

    It keeps nothing that a restart must save: what it knows is what the replicas report. A new
    owner therefore only listens at first, until every replica has told it what it holds; the first
    one of a fleet does not, since nobody can hold anything.
    """

    def __init__(self, quotas: Mapping[str, Quota], now: float, *, first: bool = False) -> None:
        """Listen from `now` (s) on, unless it is the `first` of its fleet."""
        self._limits = limits_of(quotas)
        self._lessees: dict[str, _Lessee] = {}
        self._grants_from = now if first else now + _LEARN_S

    def set_quotas(self, quotas: Mapping[str, Quota]) -> None:
        """Other limits hold from the next report on."""
        self._limits = limits_of(quotas)

    def report(self, request: LeaseRequest, now: float) -> LeaseGrant | None:
        """Take a replica's report; its new caps.

        None for a late report, for one that says goodbye, or while listening.
        """
        lessee = self._lessees.setdefault(request.lessee, _Lessee())
        if request.number <= lessee.number:
            return None
        lessee.number, lessee.seen_at, lessee.leaving = request.number, now, request.leaving
        lessee.demands = {one.key: one for one in request.demands}
        lessee.counted = {one.key: one.held for one in request.demands}
        lessee.told = request.told
        if now < self._grants_from or lessee.leaving:
            return None
        self._forget_silent(now)
        # The answer may be lost: then it goes on dividing by what it was told before.
        lessee.told = min(request.told or len(self._lessees), len(self._lessees))
        rank = sorted(self._lessees).index(request.lessee)
        known = [key for key in lessee.demands if key in self._limits]
        shares = tuple(self._share(request.lessee, key, now) for key in known)
        return LeaseGrant(request.number, len(self._lessees), rank, shares)

    def silent(self, now: float) -> list[str]:
        """Replicas that have not been heard of, and said no goodbye: some may have died."""
        lessees = self._lessees.items()
        return [name for name, one in lessees if one.is_silent(now) and not one.leaving]

    def gone(self, name: str) -> None:
        """A replica's process has ended without a goodbye: it uses nothing more.

        What it was last heard to use has to leave the minute. What it used after that, for up to a
        period, is not known and not counted; to keep back all that it was allowed would keep the
        whole quota of a fleet of one from the replica that follows.
        """
        lessee = self._lessees.get(name)
        if lessee is not None:
            tokens = {key: one.use for key, one in lessee.demands.items() if key[1] == "tokens"}
            lessee.demands, lessee.counted, lessee.leaving = {}, tokens, True

    def _forget_silent(self, now: float) -> None:
        """Forget who is gone; of who can have no more than an even share by now, what it said."""
        for name, lessee in list(self._lessees.items()):
            if lessee.is_past(now):
                del self._lessees[name]
            elif now - lessee.seen_at > _HELD_AFTER_S and not lessee.leaving:
                lessee.demands, lessee.counted = {}, {}

    def _share(self, name: str, key: Key, now: float) -> Share:
        """A replica's new cap: what it is due, as far as the others' caps leave room for it."""
        limit, lessee = self._limits[key], self._lessees[name]
        others = sum(
            self._counted(other, key, now)
            for other in self._lessees.values()
            if other is not lessee
        )
        cap = max(min(self._due(name, key, now), limit - others), 0)
        # Until its next report the replica may not have heard of a lower cap.
        lessee.counted[key] = max(cap, lessee.demands[key].held)
        return Share(key, cap, *self._fleet_use(key, now))

    def _counted(self, lessee: _Lessee, key: Key, now: float) -> int:
        """The most that a replica may use; one that is silent may have taken its even share."""
        counted = lessee.counted.get(key, 0)
        if lessee.leaving or not lessee.is_silent(now):
            return counted
        return max(counted, lessee.even(self._limits[key]))

    def _due(self, name: str, key: Key, now: float) -> int:
        """What everybody wants and a part of the rest; where that is too much, as `shared_out`."""
        wants = {other: self._want(one, key, now) for other, one in self._lessees.items()}
        spare = self._limits[key] - sum(one.wanted for one in wants.values())
        if spare >= 0:
            staying = sum(not one.leaving for one in self._lessees.values())
            return wants[name].wanted + spare // _KEPT_BACK // staying
        return shared_out(wants, self._limits[key])[name]

    def _want(self, lessee: _Lessee, key: Key, now: float) -> Want:
        if lessee.is_silent(now) or key not in lessee.demands:
            counted = self._counted(lessee, key, now)
            return Want(counted, counted)
        demand = lessee.demands[key]
        return Want(demand.use, demand.wanted, demand.each)

    def _fleet_use(self, key: Key, now: float) -> tuple[int, tuple[int, ...]]:
        """What all replicas use, or may use where that is forgotten; when it leaves the minute."""
        lessees = self._lessees.values()
        demands = [one.demands[key] for one in lessees if key in one.demands]
        unknown = sum(self._counted(one, key, now) for one in lessees if key not in one.demands)
        leaving = zip_longest(*(one.leaving for one in demands), fillvalue=0)
        return sum(one.use for one in demands) + unknown, tuple(map(sum, leaving))

    def check_integrity(self) -> None:
        """Nobody is counted with less than it says that it may use.

        Raises:
            AssertionError: somebody is.
        """
        for lessee in self._lessees.values():
            for key, demand in lessee.demands.items():
                assert demand.use <= demand.held <= lessee.counted[key]

    def __repr__(self) -> str:
        return f"<QuotaOwner {len(self._lessees)} replicas, {len(self._limits)} limits>"


def shared_out(wants: Mapping[str, Want], limit: int) -> dict[str, int]:
    """Parts of a limit for replicas that want more than there is: max-min fairly, and of use.

    Where a fair part has no room for a single request, all replicas would refuse though little of
    the limit is used. Those whose part it would be get one request each, as far as it goes.
    """
    level = _level([one.wanted for one in wants.values()], limit)
    parts = {name: min(one.wanted, level) for name, one in wants.items()}
    short = [(name, one) for name, one in sorted(wants.items()) if parts[name] < one.wanted]
    small = [(name, one) for name, one in short if level < one.use + one.each]
    for name, one in small:
        parts[name] = min(one.use, level)
    left = limit - sum(parts.values())
    for name, one in small:
        enough = max(one.use, parts[name]) + one.each - parts[name]
        if enough <= min(left, one.wanted - parts[name]):
            parts[name] += enough
            left -= enough
    for name, one in short:  # what is left has room for no further one
        more = min(left, one.wanted - parts[name])
        parts[name] += more
        left -= more
    return parts


def _level(wanted: list[int], limit: int) -> int:
    """The water level: who wants less gets that, the others this much; all together `limit`."""
    left = limit
    for place, amount in enumerate(sorted(wanted)):
        even = left // (len(wanted) - place)
        if amount > even:
            return even
        left -= amount
    return max(wanted)
