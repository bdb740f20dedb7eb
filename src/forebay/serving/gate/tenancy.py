"""Who asks, and what they may: keys, classes, quotas and cache salts of one replica.

Without a tenants file the service is open: everybody is the same nameless tenant, without limits.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from forebay.policies.fairness import FairQueue
from forebay.policies.quotas import PERIOD_S, Charge, Quota, QuotaLease, Refused
from forebay.policies.request import Ticket, cache_salt
from forebay.serving.gate.fleet_reports import Answer, Report
from forebay.serving.http import RequestRefusedError, Scope, header
from forebay.spec.service import ServiceSpec
from forebay.spec.tenants import LOOK_EVERY_S, LastGood, Tenant, Tenants, TenantsFile

_BEARER = b"bearer "
NEVER_S = 3600.0  # the wait that a request larger than its quota is told
_MOST_EXCHANGES = 8.0  # of service here, by which what was served elsewhere sets anybody back
_KEEP = 0.5  # of what was served here lately, a period later: in all it is that of two periods
_MOST_ASKS = 2  # for one request: what was under way when it came knew nothing of it
_LOG = logging.getLogger("ray.serve")  # goes to the replica's log


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
        last_good: LastGood | None = None,
    ) -> None:
        """Read the tenants file, if there is one.

        Args:
            spec: the service.
            replica: name of this replica among those of the fleet.
            clock: seconds.
            fair: is told the tenants' weights, and what they were served elsewhere.
            last_good: where the file's last good version is shared; None: nowhere.

        Raises:
            SpecError: the file is wrong, and there is no last good version of it.
        """
        self._spec = spec
        self._replica = replica
        self._clock = clock
        self._fair = fair
        self._weights: dict[str, float] = {}
        self._served: defaultdict[str, defaultdict[str, float]] = _by_class()
        self._refused: defaultdict[str, defaultdict[str, float]] = _by_class()
        self._lately: dict[str, float] = {}  # tokens let in, by class, faded
        self._reported_at = clock()
        # A salt matters within one engine's cache only, so each replica has a secret of its own.
        self._secret = os.urandom(32)
        self._file = None
        if spec.tenants is not None:
            self._file = TenantsFile(spec.tenants, clock(), last_good)
        self._watched = False  # the file is looked at elsewhere than on the event loop
        self._known = Tenants.nobody()
        self._callers: dict[str, Caller] = {}
        self._error: str | None = None
        self.quotas: dict[str, Quota] = {}
        self.lease = QuotaLease(replica, {})
        self._charged: dict[Ticket, Charge] = {}  # to quotas, of requests that are not over
        # Set once there is a fleet.
        self.ask_fleet: Callable[[], Awaitable[None]] | None = None
        self.say_goodbye: Callable[[], Awaitable[None]] | None = None
        self.apart = False  # from it: its ledger does not answer
        if self._file is not None:
            self._adopt(self._file.tenants)

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
        known = self._known
        if not self._watched:
            known = self._adopt(self._file.current(self._clock()))
        if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
            raise _unknown_key("Send your API key as Authorization: Bearer KEY.")
        key = authorization[len(_BEARER) :].strip().decode("latin-1")
        holder = known.holder(key)
        if holder is None:
            raise _unknown_key("The API key is not known here, or was revoked.")
        return self._callers[holder.name]

    async def spend(
        self, caller: Caller, tokens: int, now: float, most: int = 0, least: int = 0
    ) -> Charge | Refused:
        """Charge a request to its tenant's quotas, or say why not.

        Where the fleet has room that this replica lacks, it is asked for first.

        Args:
            caller: whose request it is.
            tokens: that it is expected to use.
            now: seconds, when it came.
            most: tokens that it can use at all, where those may be more.
            least: tokens that it uses however short its answers are.
        """
        if caller.name not in self.quotas:
            return Charge(now, tokens)
        charged = self.lease.charge(caller.name, tokens, most, least)
        refused = self.lease.try_spend(caller.name, charged, now)
        for _ in range(_MOST_ASKS):
            if refused is None or not refused.ask_owner or self.ask_fleet is None:
                break
            await self.ask_fleet()
            now = self._clock()
            refused = self.lease.try_spend(caller.name, charged, now, before=refused)
            if self.apart:
                break
        if refused is not None:
            return refused
        return Charge(now, tokens, self.lease.limited(caller.name), charged - tokens)

    def let_in(self, ticket: Ticket, charge: Charge) -> None:
        """A charged request was admitted."""
        if ticket.tenant:
            self._served[ticket.class_name][ticket.tenant] += ticket.cost.tokens
        if charge.resources:
            self._charged[ticket] = charge

    def turned_away(self, caller: Caller, class_name: str, charge: Charge, now: float) -> None:
        """A charged request was not admitted."""
        if caller.name:
            self._refused[class_name][caller.name] += charge.tokens
        self._settle(caller.name, charge, 0, now)

    def ended(self, ticket: Ticket, now: float) -> None:
        """An admitted request is over; correct what it was charged by what it used."""
        used = ticket.spent_tokens
        if ticket.tenant:
            self._served[ticket.class_name][ticket.tenant] += used - ticket.cost.tokens
        charge = self._charged.pop(ticket, None)
        if charge is not None:
            self._settle(ticket.tenant, charge, used, now)
            if used:  # or who leaves at once, at no cost, would teach that little is used
                self.lease.learn(ticket.tenant, charge.tokens, used)

    def _settle(self, tenant: str, charge: Charge, used: int, now: float) -> None:
        if "tokens" in charge.resources:
            self.lease.settle(tenant, used - charge.charged, charge.at, now)
        if "slots" in charge.resources:
            self.lease.ended(tenant)

    def charge_growth(self, now: float) -> None:
        """Charge what answers have become beyond what they were thought to, while they run.

        At their ends only, a tenant whose answers are ten times as long as others' would have used
        ten minutes' quota before the first of them is known.
        """
        for ticket, charge in self._charged.items():
            over = ticket.used_tokens - charge.charged
            if over > 0 and "tokens" in charge.resources:
                self.lease.settle(ticket.tenant, over, charge.at, now)
                charge.beyond += over

    # --- with the fleet -------------------------------------------------------------------

    def report(self, now: float) -> Report | None:
        """What to tell the fleet now; None while nothing is due."""
        self.charge_growth(now)
        lease = self.lease.request(now) if self.quotas else None
        if lease is None and now - self._reported_at < PERIOD_S:
            return None
        kept = _KEEP ** ((now - self._reported_at) / PERIOD_S)
        self._lately = {name: kept * tokens for name, tokens in self._lately.items()}
        self._reported_at = now
        served = {name: dict(tokens) for name, tokens in self._served.items()}
        for name, tokens in served.items():
            self._lately[name] = self._lately.get(name, 0.0) + sum(tokens.values())
        refused = {name: dict(tokens) for name, tokens in self._refused.items()}
        self._served, self._refused = _by_class(), _by_class()
        return Report(self._replica, lease, self.quotas, self._weights, served, refused)

    def unheard(self, report: Report) -> None:
        """A report has reached nobody: the next one says again what was served and refused."""
        for name, tokens in report.served.items():
            self._lately[name] -= sum(tokens.values())
        for sums, told in ((self._served, report.served), (self._refused, report.refused)):
            for class_name, tokens in told.items():
                for tenant, amount in tokens.items():
                    sums[class_name][tenant] += amount

    def answered(self, answer: Answer, now: float) -> None:
        """The fleet's answer to a report."""
        if answer.grant is not None:
            self.lease.granted(answer.grant, now)
        for class_name, tokens in answer.elsewhere.items():
            # Nobody is set back by more than everybody here was served in a few exchanges.
            most = _MOST_EXCHANGES * (1.0 - _KEEP) * max(self._lately.get(class_name, 0.0), 0.0)
            self._fair.served_elsewhere(class_name, tokens, most, now)

    async def leave(self) -> None:
        """This replica stops: nothing more is spent here, and the fleet is told."""
        self.lease.leave()
        if self.quotas and self.say_goodbye is not None:
            await self.say_goodbye()

    async def watch(self) -> None:
        """Look at the file every second, in a thread: to read many tenants would hold up streams.

        In another it is shared with the fleet, whose head may be away. Where nobody watches, the
        file is looked at by who asks, and not shared.
        """
        assert self._file is not None
        self._watched = True
        try:
            await asyncio.gather(
                self._adopt_forever(self._file.look), self._adopt_forever(self._file.share)
            )
        finally:
            self._watched = False

    async def _adopt_forever(self, read: Callable[[], object]) -> None:
        assert self._file is not None
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await asyncio.to_thread(read)
                self._adopt(self._file.tenants)
            except Exception:
                _LOG.exception("the tenants stay as they were")

    def _adopt(self, known: Tenants) -> Tenants:
        """These are the tenants from now on."""
        error = None if self._file is None else self._file.error
        if error != self._error:
            self._error = error
            if error:
                _LOG.warning("tenants file kept as it was: %s", error)
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
    return refused.wait_s if math.isfinite(refused.wait_s) else NEVER_S


def _unknown_key(message: str) -> RequestRefusedError:
    headers = [(b"www-authenticate", b"Bearer")]
    return RequestRefusedError(401, message, "invalid_api_key", headers=headers)
