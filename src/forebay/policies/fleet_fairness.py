"""Weights over the fleet: what a replica charges a tenant for being served elsewhere.

Each replica shares its own tokens by weight. That is not enough when the traffic of one tenant is
bound to a few replicas, by a prefix that is cached there: on those it gets its share, on the others
nothing, while the others' tenants are served everywhere. So each replica charges a tenant for what
it got where the one that is furthest behind here could not compete. The charge is split among the
replicas where that one does compete: each alone charging all of it would, a moment later, have the
whole fleet give way to one tenant, and then to the other.

What two tenants get where both compete is not charged: there the replica itself keeps the balance.
So what was made up for is not charged again, and equal traffic on all replicas charges nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

Tokens = Mapping[str, Mapping[str, float]]  # by replica and tenant


def elsewhere_charges(
    served: Tokens, waiting: Mapping[str, Set[str]], weights: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Tokens that each replica should charge each tenant that waits there, for one exchange.

    Args:
        served: tokens since the exchange before, of one class.
        waiting: tenants that had requests waiting at each replica at any time since.
        weights: by tenant; one that is not named weighs 1.

    Returns:
        By replica and tenant, charges above 0 only; for `FairQueue.served_elsewhere`.
    """
    exchange = _Exchange(served, waiting, weights)
    return {replica: exchange.charges(here) for replica, here in waiting.items()}


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What `elsewhere_charges` was told."""

    served: Tokens
    waiting: Mapping[str, Set[str]]
    weights: Mapping[str, float]

    def charges(self, here: Set[str]) -> dict[str, float]:
        """Charges at a replica where these tenants wait, against the one furthest behind."""
        if len(here) < 2:
            return {}
        behind = max(sorted(here), key=lambda tenant: sum(self.lead(t, tenant) for t in here))
        places = sum(behind in tenants for tenants in self.waiting.values())
        leads = {tenant: self.lead(tenant, behind) for tenant in sorted(here - {behind})}
        return {t: lead * self.weight(t) / places for t, lead in leads.items() if lead > 0}

    def lead(self, tenant: str, other: str) -> float:
        """Tokens over weight that a tenant got without the other, beyond the other without it."""
        mine = self.uncontested(tenant, other) / self.weight(tenant)
        return mine - self.uncontested(other, tenant) / self.weight(other)

    def uncontested(self, tenant: str, absent: str) -> float:
        """Tokens that a tenant got where the absent one did not wait."""
        return sum(
            tokens.get(tenant, 0.0)
            for replica, tokens in self.served.items()
            if absent not in self.waiting.get(replica, ())
        )

    def weight(self, tenant: str) -> float:
        """The tenant's weight."""
        return self.weights.get(tenant, 1.0)
