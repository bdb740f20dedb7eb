"""What a replica and the fleet's ledger say to each other about tenants (see `exchange.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forebay.policies.quotas import LeaseGrant, LeaseRequest, Quota

ByClass = dict[str, dict[str, float]]  # tokens by class and tenant


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica tells.

    Attributes:
        replica: its name.
        lease: its report on quotas; None while none is due.
        quotas: as it has read them.
        weights: the same of weights.
        served: tokens since the report before.
        waiting: tenants that had requests waiting since then, by class.
    """

    replica: str
    lease: LeaseRequest | None
    quotas: Mapping[str, Quota]
    weights: Mapping[str, float]
    served: ByClass
    waiting: dict[str, set[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is told: caps, and what tenants were served elsewhere, in tokens."""

    grant: LeaseGrant | None
    elsewhere: ByClass
