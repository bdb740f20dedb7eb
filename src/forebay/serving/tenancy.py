"""Who asks, and what they may: keys, classes, quotas and cache salts of one replica.

Without a tenants file the service is open: everybody is the same nameless tenant, without limits.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from forebay.policies.isolation import cache_salt
from forebay.policies.ledger import Ticket
from forebay.policies.quota_lease import QuotaLease
from forebay.policies.quotas import Quota, Refused
from forebay.serving.errors import RequestRefusedError
from forebay.spec.service import ServiceSpec
from forebay.spec.tenants import Tenant, Tenants
from forebay.spec.tenants_file import TenantsFile

_BEARER = b"bearer "
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is.

    Attributes:
        name: the tenant's; empty in open mode.
        batch_only: whether it may not be interactive.
        cache_salt: its requests share prefixes with those of the same salt.
    """

    name: str = ""
    batch_only: bool = False
    cache_salt: str | None = None


_ANYBODY = Caller()


class Tenancy:
    """The tenants of a service, as one replica knows them."""

    def __init__(
        self,
        spec: ServiceSpec,
        replica: str,
        clock: Callable[[], float],
        on_weights: Callable[[Mapping[str, float]], None],
    ) -> None:
        """Read the tenants file, if there is one.

        Args:
            spec: the service.
            replica: name of this replica among those that share the quotas.
            clock: seconds.
            on_weights: told the tenants' weights, now and whenever they change.

        Raises:
            SpecError: the file is wrong.
        """
        self._spec = spec
        self._clock = clock
        self._on_weights = on_weights
        # A salt matters within one engine's cache only, so each replica has a secret of its own.
        self._secret = os.urandom(32)
        self._file = None if spec.tenants is None else TenantsFile(spec.tenants, clock())
        self._known: Tenants | None = None
        self._callers: dict[str, Caller] = {}
        self._error: str | None = None
        self.quotas: dict[str, Quota] = {}
        self.lease = QuotaLease(replica, {})
        self._look(clock())

    @property
    def is_open(self) -> bool:
        """Whether anybody may ask."""
        return self._file is None

    def caller(self, authorization: bytes | None) -> Caller:
        """Who holds the key in an `Authorization` header.

        Raises:
            RequestRefusedError: 401: nobody does.
        """
        if self._file is None:
            return _ANYBODY
        known = self._look(self._clock())
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            raise _unknown_key("Send your API key as Authorization: Bearer KEY.")
        key = authorization[len(_BEARER) :].strip().decode("latin-1")
        holder = known.holder(key)
        if holder is None:
            raise _unknown_key("The API key is not known here, or was revoked.")
        return self._callers[holder.name]

    def spend(self, caller: Caller, tokens: int, now: float) -> Refused | None:
        """Charge a request to its tenant's quotas, or say why not; None: charged."""
        return self.lease.try_spend(caller.name, tokens, now) if self.quotas else None

    def give_back(self, caller: Caller, tokens: int, now: float) -> None:
        """A charged request was not admitted."""
        if self.quotas:
            self.lease.settle(caller.name, -tokens, now, now)
            self.lease.ended(caller.name)

    def ended(self, ticket: Ticket, now: float) -> None:
        """A charged and admitted request is over; correct the charge by what it used."""
        if self.quotas:
            over = ticket.used_tokens - ticket.cost.tokens
            self.lease.settle(ticket.tenant, over, ticket.admitted_at, now)
            self.lease.ended(ticket.tenant)

    def _look(self, now: float) -> Tenants:
        """The tenants as the file says now."""
        if self._file is None:
            return Tenants.nobody()
        known = self._file.current(now)
        if self._file.error != self._error:
            self._error = self._file.error
            if self._error:
                _LOG.warning("tenants file kept as it was: %s", self._error)
        if known is not self._known:
            self._known = known
            self._take(known)
        return known

    def _take(self, known: Tenants) -> None:
        self._callers = {tenant.name: self._caller_of(tenant) for tenant in known.all}
        self.quotas = {
            tenant.name: Quota(tenant.tokens_per_minute, tenant.max_concurrency)
            for tenant in known.all
            if tenant.tokens_per_minute is not None or tenant.max_concurrency is not None
        }
        self.lease.set_quotas(self.quotas)
        self._on_weights({tenant.name: tenant.weight for tenant in known.all})

    def _caller_of(self, tenant: Tenant) -> Caller:
        salt = cache_salt(self._spec.cache_isolation, self._secret, tenant.name, tenant.cache_group)
        return Caller(tenant.name, tenant.highest_class == "batch", salt)


def quota_wait_s(refused: Refused) -> float:
    """Seconds after which to come back; a request larger than the quota never fits."""
    return refused.wait_s if math.isfinite(refused.wait_s) else 3600.0


def _unknown_key(message: str) -> RequestRefusedError:
    return RequestRefusedError(401, message, "invalid_api_key")
