"""What the replicas of a fleet tell each other about tenants, through one named actor.

Two things: quotas, which hold for the fleet (`policies/quotas/quota_terms.py`), and what tenants
were served, so that weights hold for it too (`policies/quotas/fleet_fairness.py`). The actor keeps
nothing that must survive it. It belongs to no replica and ends with the service; if it dies, the
next report makes a new one, and until then each replica looks after itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Any

from forebay.policies.quotas import PERIOD_S, FleetFairness, QuotaOwner
from forebay.serving.cluster_kv import is_first_ledger
from forebay.serving.gate import Answer, ByClass, Report, Tenancy
from forebay.serving.head_actors import on_the_head
from forebay.serving.names import ACTOR_NAMESPACE, fleet_actor

_LOG = logging.getLogger("ray.serve")  # goes to the replica's log
_LOOK_S = 0.05  # how finely a report that became urgent is noticed
_ANSWER_S = 1.0
_TIMER_S = 0.001  # by which a timer of uvloop's may be early
_GROWTH_S = 1.0  # between two looks at how far answers have grown
_LOOK_AGAIN_S = 1.0  # after looking in vain: each time takes milliseconds of the interpreter's lock


@dataclass(slots=True)
class _Round:
    """What was told since the last charges were made, by class and replica."""

    served: dict[str, dict[str, defaultdict[str, float]]] = field(default_factory=dict)
    refused: dict[str, dict[str, defaultdict[str, float]]] = field(default_factory=dict)

    def add(self, report: Report) -> None:
        for sums, told in ((self.served, report.served), (self.refused, report.refused)):
            for name, tokens in told.items():
                mine = sums.setdefault(name, {}).setdefault(report.replica, defaultdict(float))
                for tenant, amount in tokens.items():
                    mine[tenant] += amount


class FleetLedger:
    """The actor's state: takes reports, hands out caps and charges. Pure but for the time given."""

    def __init__(self, now: float, *, first: bool = False) -> None:
        self._owner = QuotaOwner({}, now, first=first)
        self._round = _Round()
        self._round_ends = now + PERIOD_S
        self._fairness: defaultdict[str, FleetFairness] = defaultdict(FleetFairness)
        self._charges: defaultdict[str, ByClass] = defaultdict(dict)

    def exchange(self, report: Report, now: float) -> Answer:
        """A replica's report at `now` (s); its answer."""
        self._owner.set_quotas(report.quotas)
        self._round.add(report)
        if now >= self._round_ends:
            self._settle(report.weights)
            self._round_ends = now + PERIOD_S
        grant = None if report.lease is None else self._owner.report(report.lease, now)
        return Answer(grant, self._charges.pop(report.replica, {}))

    def silent(self, now: float) -> list[str]:
        """Replicas that may have died: see `QuotaOwner.silent`."""
        return self._owner.silent(now)

    def gone(self, replica: str) -> None:
        """A replica has died: see `QuotaOwner.gone`."""
        self._owner.gone(replica)

    def _settle(self, weights: Mapping[str, float]) -> None:
        """Charges of the round that ends; one that a replica has not fetched is replaced."""
        self._charges.clear()
        told = self._round
        for name in told.served.keys() | told.refused.keys() | self._fairness.keys():
            served, refused = told.served.get(name, {}), told.refused.get(name, {})
            charges = self._fairness[name].exchange(served, refused, weights)
            for replica, tokens in charges.items():
                if tokens:
                    self._charges[replica][name] = tokens
        self._round = _Round()


class FleetActor:
    """`FleetLedger` as a Ray actor."""

    def __init__(self, service: str) -> None:
        self._ledger = FleetLedger(time.monotonic(), first=is_first_ledger(service))
        self._look_at = -inf  # for who has died, not before then
        # In a thread: while the cluster's head is away, Ray waits, and replicas must not.
        self._looking = ThreadPoolExecutor(1)
        self._alive: Future[set[str]] | None = None  # replicas, as far as somebody looks

    def exchange(self, report: Report) -> Answer:
        """A replica's report; its answer."""
        now = time.monotonic()
        self._look_for_the_dead(report.replica, now)
        return self._ledger.exchange(report, now)

    def _look_for_the_dead(self, reporting: str, now: float) -> None:
        """Ask Ray whether those live that are silent; what it says is heard with a later report."""
        silent = self._ledger.silent(now)
        if self._alive is not None and self._alive.done():
            # Where it does not say, they may live, and an even share is kept for each. Where it
            # does not know who reports, it tells of others than these.
            alive = set() if self._alive.exception() else self._alive.result()
            for name in set(silent) - alive if reporting in alive else ():
                self._ledger.gone(name)
            self._alive = None
        elif silent and self._alive is None and now >= self._look_at:
            self._look_at = now + PERIOD_S
            self._alive = self._looking.submit(_living_replicas)


class QuotaSync:
    """A replica's side."""

    def __init__(self, tenancy: Tenancy, service: str) -> None:
        self._tenancy = tenancy
        self._service = service
        self._actor: Any = None
        self._look_at = -inf  # not before then
        self._finding: asyncio.Task[Any] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def forever(self) -> None:
        """Report whenever a report is due; without an answer a replica looks after itself."""
        await asyncio.gather(self._report_forever(), self._charge_forever())

    async def _report_forever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.now()

    async def _charge_forever(self) -> None:
        """Charge what answers have grown by, also while there is nobody to tell."""
        while True:
            await asyncio.sleep(_GROWTH_S)
            self._tenancy.charge_growth(time.monotonic())

    async def now(self) -> None:
        """Report at once if one is due; who comes meanwhile waits for the same answer."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._report())
        await asyncio.shield(self._asking)

    async def goodbye(self) -> None:
        """Tell the fleet that this replica stops, so that its part is free for others."""
        if self._asking is not None:  # what is under way does not say it
            await asyncio.shield(self._asking)
        await self.now()

    async def _report(self) -> None:
        report = None
        try:
            if self._actor is None:
                if time.monotonic() < self._look_at:
                    return
                self._actor = await asyncio.wait_for(self._found(), _ANSWER_S)
            due_s = self._tenancy.lease.due_in(time.monotonic())
            if 0.0 < due_s <= _LOOK_S:  # or who asks just after a report is refused for nothing
                await asyncio.sleep(due_s + _TIMER_S)
            report = self._tenancy.report(time.monotonic())
            if report is None:
                return
            answer = await asyncio.wait_for(self._actor.exchange.remote(report), _ANSWER_S)
            self._tenancy.answered(answer, time.monotonic())
            self._tell("")
        except TimeoutError:
            self._tell(f"no answer within {_ANSWER_S:g} s")  # it may have heard all the same
        except Exception as error:  # dead or away: silence, which a replica knows to bear
            if report is not None:
                self._tenancy.unheard(report)
            self._actor = None
            self._look_at = time.monotonic() + _LOOK_AGAIN_S
            self._tell(f"{type(error).__name__}: {error}")
        finally:
            self._asking = None

    async def _found(self) -> Any:
        """The ledger's handle, looked for in a thread, and by one at a time.

        Ray asks the cluster's head for it and waits, however long that is away: on the event loop
        all streams of this replica would stand.
        """
        if self._finding is None or self._finding.done():
            looking = asyncio.to_thread(_actor, self._service)
            self._finding = asyncio.get_running_loop().create_task(looking)
        return await asyncio.shield(self._finding)

    def _tell(self, trouble: str) -> None:
        """Log when the fleet's ledger is lost and when it is back, once each."""
        if bool(trouble) != self._tenancy.apart:
            self._tenancy.apart = bool(trouble)
            if trouble:
                _LOG.warning("the fleet's ledger does not answer (%s)", trouble)
            else:
                _LOG.warning("the fleet's ledger answers")


def _actor(service: str) -> Any:
    return on_the_head(FleetActor, fleet_actor(service), ACTOR_NAMESPACE, service)


def _living_replicas() -> set[str]:
    """Names of all replicas in the cluster whose process has not ended, as Ray knows."""
    from ray.serve._private.constants import SERVE_NAMESPACE
    from ray.util import list_named_actors

    actors = list_named_actors(all_namespaces=True)
    return {one["name"].rpartition("#")[2] for one in actors if one["namespace"] == SERVE_NAMESPACE}


def start_ledger(service: str) -> None:
    """Have the actor started before the first replica asks for it."""
    _actor(service)
