"""Who asks, and what they may: keys, classes, quotas and cache salts of one replica.

Without a tenants file the service is open: everybody is the same nameless tenant, without limits.
"""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from forebay.policies.fairness import FairQueue
from forebay.policies.isolation import cache_salt
from forebay.policies.ledger import Ticket
from forebay.policies.quota_lease import QuotaLease
from forebay.policies.quotas import PERIOD_S, Quota, Refused
from forebay.serving.asgi import Scope, header
from forebay.serving.errors import RequestRefusedError
from forebay.serving.fleet_reports import Answer, Report
from forebay.spec.service import ServiceSpec
from forebay.spec.tenants import Tenant, Tenants
from forebay.spec.tenants_file import TenantsFile

_BEARER = b"bearer "
_MOST_EXCHANGES = 3.0
_LOG = logging.getLogger(__name__)


def key_of(scope: Scope) -> bytes | None:
    """The key of a request as an `Authorization` header."""
    return header(scope, b"authorization") or _anthropic_key(scope)


def _anthropic_key(scope: Scope) -> bytes | None:
    """The key as Anthropic's clients send it (`/v1/messages`)."""
    key = header(scope, b"x-api-key")
    return None if key is None else b"Bearer " + key


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
        fair: FairQueue,
    ) -> None:
        """Read the tenants file, if there is one.

        Args:
            spec: the service.
            replica: name of this replica among those of the fleet.
            clock: seconds.
            fair: is told the tenants' weights, and what they were served elsewhere.

        Raises:
            SpecError: the file is wrong.
        """
        self._spec = spec
        self._replica = replica
        self._clock = clock
        self._fair = fair
        self._weights: dict[str, float] = {}
        self._served: defaultdict[str, defaultdict[str, float]] = _by_class()
        self._refused: defaultdict[str, defaultdict[str, float]] = _by_class()
        self._reported_at = clock()
        # A salt matters within one engine's cache only, so each replica has a secret of its own.
        self._secret = os.urandom(32)
        self._file = None if spec.tenants is None else TenantsFile(spec.tenants, clock())
        self._known: Tenants | None = None
        self._callers: dict[str, Caller] = {}
        self._error: str | None = None
        self.quotas: dict[str, Quota] = {}
        self.lease = QuotaLease(replica, {})
        # Set once there is a fleet.
        self.ask_fleet: Callable[[], Awaitable[None]] | None = None
        self.say_goodbye: Callable[[], Awaitable[None]] | None = None
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

    async def spend(self, caller: Caller, tokens: int, now: float) -> Refused | None:
        """Charge a request to its tenant's quotas, or say why not; None: charged.

        Where the fleet has room that this replica lacks, it is asked for first.
        """
        if caller.name not in self.quotas:
            return None
        refused = self.lease.try_spend(caller.name, tokens, now)
        if refused is None or not refused.ask_owner or self.ask_fleet is None:
            return refused
        await self.ask_fleet()
        return self.lease.try_spend(caller.name, tokens, self._clock())

    def charged(self, caller: Caller) -> tuple[str, ...]:
        """What `spend` has charged a request for that comes now."""
        return self.lease.limited(caller.name)

    def let_in(self, ticket: Ticket) -> None:
        """A charged request was admitted."""
        if ticket.tenant:
            self._served[ticket.class_name][ticket.tenant] += ticket.cost.tokens

    def turned_away(self, caller: Caller, class_name: str, tokens: int, now: float) -> None:
        """A charged request was not admitted."""
        if caller.name:
            self._refused[class_name][caller.name] += tokens
        if caller.name in self.quotas:
            self.lease.settle(caller.name, -tokens, now, now)
            self.lease.ended(caller.name)

    def ended(self, ticket: Ticket, now: float) -> None:
        """An admitted request is over; correct what it was charged by what it used.

        Quotas come and go with the tenants file while requests run: each undoes its own charges.
        """
        over = ticket.used_tokens - ticket.cost.tokens
        if ticket.tenant:
            self._served[ticket.class_name][ticket.tenant] += over
        if "tokens" in ticket.quotas:
            self.lease.settle(ticket.tenant, over, ticket.admitted_at, now)
        if "slots" in ticket.quotas:
            self.lease.ended(ticket.tenant)

    # --- with the fleet -------------------------------------------------------------------

    def report(self, now: float) -> Report | None:
        """What to tell the fleet now; None while nothing is due."""
        lease = self.lease.request(now) if self.quotas else None
        if lease is None and now - self._reported_at < PERIOD_S:
            return None
        self._reported_at = now
        served = {name: dict(tokens) for name, tokens in self._served.items()}
        refused = {name: dict(tokens) for name, tokens in self._refused.items()}
        self._served, self._refused = _by_class(), _by_class()
        return Report(self._replica, lease, self.quotas, self._weights, served, refused)

    def answered(self, answer: Answer, now: float) -> None:
        """The fleet's answer to a report."""
        if answer.grant is not None:
            self.lease.granted(answer.grant, now)
        for class_name, tokens in answer.elsewhere.items():
            # Nobody is set back by more than everybody here was served in a few exchanges.
            most = _MOST_EXCHANGES * sum(tokens.values())
            self._fair.served_elsewhere(class_name, tokens, most, now)

    async def leave(self) -> None:
        """This replica stops: nothing more is spent here, and the fleet is told."""
        self.lease.leave()
        if self.quotas and self.say_goodbye is not None:
            await self.say_goodbye()

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
        self._weights = {tenant.name: tenant.weight for tenant in known.all}
        self._fair.set_weights(self._weights)

    def _caller_of(self, tenant: Tenant) -> Caller:
        salt = cache_salt(self._spec.cache_isolation, self._secret, tenant.name, tenant.cache_group)
        return Caller(tenant.name, tenant.highest_class == "batch", salt)


def _by_class() -> defaultdict[str, defaultdict[str, float]]:
    """Tokens by class and tenant, all 0."""
    return defaultdict(lambda: defaultdict(float))


def quota_wait_s(refused: Refused) -> float:
    """Seconds after which to come back; a request larger than the quota never fits."""
    return refused.wait_s if math.isfinite(refused.wait_s) else 3600.0


def _unknown_key(message: str) -> RequestRefusedError:
    headers = [(b"www-authenticate", b"Bearer")]
    return RequestRefusedError(401, message, "invalid_api_key", headers=headers)
