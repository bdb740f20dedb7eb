"""Quotas that hold for the fleet, though each gate sees one replica: the values and the idea.

Each replica has a *cap* for each limit of each tenant: tokens in any minute, requests at once. It
admits while its own use stays within its cap, and asks nobody. One owner for the fleet moves caps
to where the demand is, and **the caps of all replicas together never exceed the limit**. From this
one rule follows that the fleet stays within it: when messages are late or lost, when the owner dies
and when it comes back without memory, since the replicas still have their caps and tell it.

- `QuotaLease` (`quota_lease.py`), one per replica, decides and reports what it uses, holds, wants.
- `QuotaOwner` (`quota_owner.py`), one per fleet, answers each report with new caps.

A minute is any 60 seconds, not a bucket that refills: a tenant that was silent may use its whole
quota at once. A bucket would have to be smaller than a twentieth of the quota to stay within 5 % in
any minute, and would refuse two long prompts that come together.

Messages are small plain values. A replica sends one a period, or sooner when it has to refuse what
the fleet has room for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

PERIOD_S = 1.0  # between two reports of a replica
WINDOW_S = 60.0  # what "a minute" is
BIN_S = 5.0  # how exactly a wait is told
BINS = 13  # a minute and the second that a second takes to be past
SILENT_AFTER_S = 2 * PERIOD_S  # the owner takes a replica to be on its own
ALONE_AFTER_S = 3 * PERIOD_S  # a replica takes itself to be on its own: after the owner does
# On its own, until it has an even share: others may have used more than one until they too noticed
# that the owner is lost.
EVEN_AFTER_S = WINDOW_S + 1.0 + 2 * ALONE_AFTER_S

Resource = Literal["tokens", "slots"]
Key = tuple[str, Resource]  # tenant and what is limited


@dataclass(frozen=True, slots=True)
class Quota:
    """A tenant's limits over the fleet: tokens in any minute, requests at once; None: no limit."""

    tokens_per_minute: int | None = None
    max_concurrency: int | None = None


@dataclass(slots=True)
class Charge:
    """What a request has been charged to its tenant's quotas.

    Attributes:
        at: seconds, when it was first charged; what is given back leaves that second.
        tokens: that it was expected to use.
        resources: what was limited when it came. Quotas come and go with the tenants file while
            requests run: each undoes its own charges.
        beyond: tokens charged so far beyond those; below 0 where those are more than the quota.
    """

    at: float
    tokens: int
    resources: tuple[Resource, ...] = ()
    beyond: int = 0

    @property
    def charged(self) -> int:
        """Tokens charged so far."""
        return self.tokens + self.beyond


@dataclass(frozen=True, slots=True)
class QuotaDemand:
    """One limit of one tenant, as a replica reports it.

    Attributes:
        key: tenant and resource.
        use: tokens of the last minute, or requests running.
        held: the most that it may use until it hears otherwise; at least `use`.
        wanted: what it would use if it could.
        leaving: of the tokens in `use`, those that leave the minute in each next `BIN_S` seconds.
        each: what the largest request takes that was asked for lately; a cap below is no use to it.
    """

    key: Key
    use: int
    held: int
    wanted: int
    leaving: tuple[int, ...] = ()
    each: int = 0


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """A replica's report.

    Attributes:
        lessee: the replica.
        number: counts up, so that late answers are told from fresh ones.
        demands: its limits.
        leaving: whether it stops and will use nothing more.
        told: replicas it was last told of: by that number it divides when it is on its own; 0
            until it has had an answer.
    """

    lessee: str
    number: int
    demands: tuple[QuotaDemand, ...]
    leaving: bool = False
    told: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """A replica's new cap for a limit, with `use` and `leaving` of the whole fleet at that time."""

    key: Key
    cap: int
    fleet_use: int
    fleet_leaving: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseGrant:
    """The owner's answer to the request of this number.

    Attributes:
        number: of the request.
        lessees: replicas that share the limits.
        rank: this replica's place among them, from 0: who gets what does not divide evenly.
        shares: the new caps.
    """

    number: int
    lessees: int
    rank: int
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """A request is beyond its tenant's quota.

    Attributes:
        resource: the limit that it is beyond.
        wait_s: seconds until it fits as far as is known; infinite when it never will.
        ask_owner: whether the fleet has room that this replica lacks, so that a report sent now
            (`QuotaLease.request`) may let it in at once.
    """

    resource: Resource
    wait_s: float
    ask_owner: bool


def limits_of(quotas: Mapping[str, Quota]) -> dict[Key, int]:
    """Every limit that is set, by tenant and resource."""
    limits: dict[Key, int] = {}
    for tenant, quota in quotas.items():
        if quota.tokens_per_minute is not None:
            limits[tenant, "tokens"] = quota.tokens_per_minute
        if quota.max_concurrency is not None:
            limits[tenant, "slots"] = quota.max_concurrency
    return limits


def even_share(limit: int, lessees: int, rank: int) -> int:
    """A replica's part of a limit that is divided evenly; the parts add up to the limit."""
    return limit // lessees + (rank < limit % lessees)
