"""What a replica and the fleet's ledger say to each other about tenants (see `quota_sync.py`)."""

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
        served: tokens let in since the report before, corrected by what earlier ones used.
        refused: tokens not let in since then, quotas aside.
    """

    replica: str
    lease: LeaseRequest | None
    quotas: Mapping[str, Quota]
    weights: Mapping[str, float]
    served: ByClass
    refused: ByClass


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is told: caps, and what to charge tenants for service elsewhere, in tokens."""

    grant: LeaseGrant | None
    elsewhere: ByClass
