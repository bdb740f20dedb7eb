"""A fleet in virtual time: replicas (`one_replica.py`) with their tenancy, the router, the ledger.

What stands between them is what it is in a service, less the network: what replicas publish reaches
the router half a second later, and each reports to the ledger once a second, or asks it at once.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, cast

import yaml
from one_replica import Ask, Fate, OneReplica

from forebay.engine_model import PROFILES, EngineProfile, StepTime
from forebay.policies.quotas import Charge, Refused
from forebay.policies.request import INTERACTIVE, Ticket, part_tokens
from forebay.policies.routing import Prompt, ReplicaStats, RoutingPolicy, chunk_hashes
from forebay.serving.control import FleetLedger
from forebay.serving.emulated import teach
from forebay.serving.gate import Tenancy
from forebay.serving.gate.tenancy import Caller
from forebay.spec.service import ServiceSpec
from forebay.spec.tenants import key_hash, new_key

H100 = PROFILES["h100-8b"]
H100 = H100.with_forebay_scheduler(part_tokens(H100.max_num_batched_tokens))
TPOT_S = 0.05
_PUBLISH_S, _LOOK_S = 0.5, 0.25
_TEXT = 4  # bytes of a token


def fleet_capacity(replicas: int, prompt: int, answer: int, law: StepTime) -> float:
    """Requests/s with tokens at the promised pace: steps of T = base + x T w seconds each."""
    prompt_s = law.prefill_token * prompt + law.prefill_pair * prompt * prompt / 2
    token_s = law.decode_sequence + law.context_token * (prompt + answer / 2)
    return replicas * (1.0 - law.base / TPOT_S) / (prompt_s + answer * token_s)


class Member(OneReplica):
    """A replica of the fleet."""

    def __init__(self, name: str, spec: ServiceSpec, profile: EngineProfile) -> None:
        super().__init__(profile=profile, tpot_s=TPOT_S, warm=False)
        teach(self.admission, profile)
        self.tenancy = Tenancy(spec, name, lambda: self.now, self.admission.fair)
        self._published = 0

    def routed(self, ask: Ask, cached: int) -> None:
        """A request that the router has sent here, as the gate takes it."""
        caller, tokens = Caller(ask.tenant), self.price(ask, cached).tokens
        charge = _done(self.tenancy.spend(caller, tokens, self.now))
        if isinstance(charge, Refused):
            self.fates.append(Fate(ask))
            return
        fate = self.arrive(ask, cached)
        if fate.ticket is None:
            self.tenancy.turned_away(caller, ask.class_name, charge, self.now)
        else:
            self.tenancy.let_in(fate.ticket, charge)

    def publish(self) -> ReplicaStats:
        """What the router reads."""
        self._published += 1
        typical = self.admission.predict_typical(INTERACTIVE, self.now)
        return ReplicaStats(
            sequence=self._published,
            wait_s=typical.total_s,
            prefill_rate=self.admission.paces.drain_rate,
            overhead_s=typical.overhead_s,
            kv_tokens=self.profile.kv_tokens,
            arrivals=len(self.fates),
            prompt_tokens=self.core.prompt_tokens,
            cached_tokens=self.core.cached_tokens,
            answer_s=self.admission.answer_s,
            held_s=self.admission.held_s,
            ongoing=self.admission.ongoing,
        )

    def _close(self, ticket: Ticket) -> list[Ticket]:
        released = super()._close(ticket)
        self.tenancy.ended(ticket, self.now)
        return released


class VirtualFleet:
    """Replicas behind one router; `tenants` are keys of the tenants file, by name."""

    def __init__(self, folder: Path, tenants: dict[str, dict[str, Any]], replicas: int = 8) -> None:
        spec = _spec(folder, tenants)
        self.members = {f"r{k}": Member(f"r{k}", spec, H100) for k in range(replicas)}
        self._router = RoutingPolicy(_PUBLISH_S, random.Random(1).random)
        self._ledger = FleetLedger(0.0)
        self._order = itertools.count()
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        for k, (name, member) in enumerate(self.members.items()):
            self._every(_PUBLISH_S, 0.06 * k, self._publishes(name, member))
            self._every(_LOOK_S, 0.03 * k, self._exchanges(member))
            member.tenancy.ask_fleet = self._asks(member)

    def run(self, asks: Iterable[Ask]) -> list[Fate]:
        """Serve requests to the end; what became of each."""
        for number, ask in enumerate(sorted(asks, key=lambda ask: ask.at)):
            self._pass_to(ask.at)
            placed = self._router.place(list(self.members), _prompt(ask, number), ask.at)
            member = self.members[placed.replica]
            member.run([], until=ask.at)
            member.routed(ask, placed.cached_tokens)
        for member in self.members.values():
            member.run([])
        return [fate for member in self.members.values() for fate in member.fates]

    def _pass_to(self, now: float) -> None:
        while self._due[0][0] <= now:
            at, _, act = heapq.heappop(self._due)
            act(at)

    def _at(self, moment: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), act))

    def _every(self, period_s: float, start: float, act: Callable[[float], None]) -> None:
        def again(now: float) -> None:
            act(now)
            self._at(now + period_s, again)

        self._at(start, again)

    def _publishes(self, name: str, member: Member) -> Callable[[float], None]:
        def publish(now: float) -> None:
            member.run([], until=now)
            stats = member.publish()
            self._at(now + _PUBLISH_S, lambda at: self._router.publish(name, stats, at))

        return publish

    def _exchanges(self, member: Member) -> Callable[[float], None]:
        def exchange(now: float) -> None:
            member.run([], until=now)
            self._exchange(member)

        return exchange

    def _exchange(self, member: Member) -> None:
        report = member.tenancy.report(member.now)
        if report is not None:
            member.tenancy.answered(self._ledger.exchange(report, member.now), member.now)

    def _asks(self, member: Member) -> Callable[[], Coroutine[Any, Any, None]]:
        async def ask() -> None:
            self._exchange(member)

        return ask


def _spec(folder: Path, tenants: dict[str, dict[str, Any]]) -> ServiceSpec:
    entries = [
        {"name": name, "key_hashes": [key_hash(new_key())], **more}
        for name, more in tenants.items()
    ]
    (folder / "tenants.yaml").write_text(yaml.safe_dump({"tenants": entries}))
    content = {"name": "s", "model": {"id": "m", "source": "demo"}, "tenants": "tenants.yaml"}
    return ServiceSpec.model_validate(content, context={"folder": folder})


def _prompt(ask: Ask, number: int) -> Prompt:
    """What the router reads of a prompt: text of its tenant's own, then of its own."""
    shared = (f"{ask.tenant:8}" * ask.shared).encode()[: ask.shared * _TEXT]
    text = shared + (f"{number:08}" * ask.prompt).encode()[: (ask.prompt - ask.shared) * _TEXT]
    # Python hashes numbers alike in every process, and bytes not.
    chunks = chunk_hashes(cast(bytes, tuple(text)))
    return Prompt(size=len(text), chunks=chunks, home=chunks[0] if chunks else 0)


def _done(spending: Coroutine[Any, Any, Charge | Refused]) -> Charge | Refused:
    """What a coroutine that never has to wait returns."""
    try:
        spending.send(None)
    except StopIteration as stop:
        found: Charge | Refused = stop.value
        return found
    raise AssertionError("it waits for something")
