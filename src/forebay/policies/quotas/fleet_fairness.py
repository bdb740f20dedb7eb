"""Weights over the fleet: what a replica charges a tenant for what it got elsewhere.

Each replica shares its own tokens by weight. That is not enough where the traffic of one tenant is
bound to some replicas by a prefix that is cached there: on those it gets its share and on the
others nothing, or little, while the others' tenants are served everywhere.

So the fleet keeps for each tenant a *lead*: what replicas charge it at each exchange beyond what
they gave it, in tokens over weight. It grows by a part of what the tenant got more than whoever got
least of those who are *short*, that is refused much of what they ask for; and falls when others got
more. So it comes to rest where those who are short get tokens by weight, or where one that is
behind gets all that the replicas have which it asks (an integral controller: what is charged is
what was found to be needed, whatever a charge does at each of them). Who is not short is behind by
its own choice, and nobody is charged for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

Tokens = Mapping[str, Mapping[str, float]]  # by replica and tenant

_GAIN = 0.25  # of a difference, taken up at each exchange: what was charged shows an exchange later
_KEEP = 0.8  # of what earlier exchanges said of who is short, and where
_SHORT = 0.05  # of a tenant's tokens refused, from which on it lacks more than what chance takes


class FleetFairness:
    """The leads of one class's tenants."""

    def __init__(self) -> None:
        """Nobody has got anything."""
        self._leads: dict[str, float] = {}
        self._served: dict[str, dict[str, float]] = {}
        self._refused: dict[str, dict[str, float]] = {}

    def exchange(
        self, served: Tokens, refused: Tokens, weights: Mapping[str, float]
    ) -> dict[str, dict[str, float]]:
        """Tokens that each replica should charge each tenant now.

        Args:
            served: tokens let in since the exchange before.
            refused: tokens not let in since then, quotas aside.
            weights: by tenant; one that is not named weighs 1.

        Returns:
            By replica and tenant, charges above 0 only; for `FairQueue.served_elsewhere`.
        """
        self._served = _faded(self._served, served)
        self._refused = _faded(self._refused, refused)
        short = self._short()
        if len(self._served) < 2 or not short:
            self._leads.clear()
            return {}
        got = {t: tokens / weights.get(t, 1.0) for t, tokens in _totals(served).items()}
        least = min(got.get(tenant, 0.0) for tenant in short)
        moved = {
            tenant: self._leads.get(tenant, 0.0) + _GAIN * (got.get(tenant, 0.0) - least)
            for tenant in {**got, **self._leads, **dict.fromkeys(sorted(short))}
        }
        behind = min(moved[tenant] for tenant in short)
        most = self._most(short, weights)
        leads = {t: lead - behind for t, lead in moved.items() if lead > behind or t in short}
        self._leads = _closed_up(leads, most)
        return self._charges(short, weights)

    def _short(self) -> Set[str]:
        served, refused = _totals(self._served), _totals(self._refused)
        return {
            tenant
            for tenant, tokens in refused.items()
            if tokens > _SHORT * (tokens + served.get(tenant, 0.0))
        }

    def _places(self, tenant: str) -> list[str]:
        """Replicas that refuse it."""
        return [replica for replica, refused in self._refused.items() if tenant in refused]

    def _most(self, short: Set[str], weights: Mapping[str, float]) -> dict[str, float]:
        """What each could get of the replicas that it asks, in an exchange, over its weight.

        A lead of the others beyond that is no use: each of those replicas gives it all it has.
        """
        each = 1.0 - _KEEP  # of the sum of faded exchanges
        given = {replica: each * sum(served.values()) for replica, served in self._served.items()}
        return {
            tenant: sum(given.get(replica, 0.0) for replica in self._places(tenant))
            / weights.get(tenant, 1.0)
            for tenant in short
        }

    def _charges(
        self, short: Set[str], weights: Mapping[str, float]
    ) -> dict[str, dict[str, float]]:
        """Charges by the leads, against the one furthest behind at each replica."""
        charges: dict[str, dict[str, float]] = {}
        for replica, served in self._served.items():
            here = self._refused.get(replica, {}).keys() & short
            if not here:
                continue
            behind = min(sorted(here), key=self._leads.__getitem__)
            places = len(self._places(behind))
            over = {t: self._leads.get(t, 0.0) - self._leads[behind] for t in served}
            owed = {t: lead * weights.get(t, 1.0) / places for t, lead in over.items()}
            charges[replica] = {tenant: tokens for tenant, tokens in owed.items() if tokens > 0.0}
        return charges


def _closed_up(leads: Mapping[str, float], most: Mapping[str, float]) -> dict[str, float]:
    """Leads in the same order, with no gap wider than those below it could make use of.

    Where some are behind whatever they are given, the others' leads over them would grow for ever;
    how these stand among themselves is kept.
    """
    found: dict[str, float] = {}
    last = below = widest = 0.0
    for tenant in sorted(leads, key=lambda tenant: (leads[tenant], tenant)):
        below += min(leads[tenant] - last, widest) if found else leads[tenant]
        last = leads[tenant]
        widest = max(widest, most.get(tenant, 0.0))
        found[tenant] = below
    return found


def _totals(tokens: Tokens) -> dict[str, float]:
    """Tokens of each tenant at all replicas."""
    found: dict[str, float] = {}
    for here in tokens.values():
        for tenant, amount in here.items():
            found[tenant] = found.get(tenant, 0.0) + amount
    return found


def _faded(before: Tokens, now: Tokens) -> dict[str, dict[str, float]]:
    """Earlier tokens, faded, and those of now; what has faded to under a token is dropped."""
    found: dict[str, dict[str, float]] = {}
    for replica in {**before, **now}:  # in order: sums of floats depend on it
        old, new = before.get(replica, {}), now.get(replica, {})
        kept = {
            tenant: _KEEP * old.get(tenant, 0.0) + new.get(tenant, 0.0) for tenant in {**old, **new}
        }
        kept = {tenant: tokens for tenant, tokens in kept.items() if tokens >= 1.0}
        if kept:
            found[replica] = kept
    return found
