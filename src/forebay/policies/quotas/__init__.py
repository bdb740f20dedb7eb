"""What tenants may use of a fleet in a minute, and what each replica has of it."""

from forebay.policies.quotas.fleet_fairness import FleetFairness
from forebay.policies.quotas.quota_lease import QuotaLease
from forebay.policies.quotas.quota_owner import QuotaOwner
from forebay.policies.quotas.quota_terms import (
    PERIOD_S,
    WINDOW_S,
    Charge,
    LeaseGrant,
    LeaseRequest,
    Quota,
    Refused,
)

__all__ = [
    "PERIOD_S",
    "WINDOW_S",
    "Charge",
    "FleetFairness",
    "LeaseGrant",
    "LeaseRequest",
    "Quota",
    "QuotaLease",
    "QuotaOwner",
    "Refused",
]
