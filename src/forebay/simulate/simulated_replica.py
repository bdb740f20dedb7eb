"""One replica of a simulated fleet: what stands in front of its engine, and the engine.

`OpenReplica` takes everything, as Ray Serve LLM does by default; `GatedReplica` is Forebay's:
admission prices and decides, hears of every step, and gives up what has had no first token by its
deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from forebay.engine_model import EngineProfile, EngineRequest, SchedulingHints
from forebay.policies.admission import AdmissionController
from forebay.policies.offered_work import reading_of
from forebay.policies.replica import ReplicaCore
from forebay.policies.request import (
    INTERACTIVE,
    AdmissionConfig,
    Chunks,
    CostModel,
    RequestShape,
    Sequence,
    Shed,
    StepOutput,
    Ticket,
    prompt_chunks,
)
from forebay.policies.routing import ReplicaStats
from forebay.policies.scaling import ReplicaReading
from forebay.simulate.engine_player import Done, EnginePlayer
from forebay.simulate.requests_and_outcomes import Outcome, SimRequest

# What a new replica's gate is told of its engine, as a warm-up would.
Teach = Callable[[AdmissionController, EngineProfile], None]
_UNMARKED = SchedulingHints()


class OpenReplica:
    """A replica that takes everything."""

    def __init__(self, name: str, profile: EngineProfile, *, skip: bool = True) -> None:
        """Take equal steps together unless `skip` is off, for tests; what comes out is the same."""
        self.name = name
        self.profile = profile
        self.player = EnginePlayer(profile, skip=lambda: skip and not self.holds)
        self._fates: dict[str, Outcome] = {}

    @property
    def ongoing(self) -> int:
        """Requests that it has, begun or not."""
        return len(self._fates)

    @property
    def holds(self) -> bool:
        """Whether requests wait in front of the engine, and may enter it at the end of a step."""
        return False

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return not self._fates

    def advance(self, now: float) -> None:
        """Go on until `now`."""
        for done in self.player.until(now):
            self._tell(done)

    def arrive(self, fate: Outcome, now: float) -> None:
        """A request comes; the replica has gone on until `now`."""
        fate.replica = self.name
        most = self._room(fate.ask)
        self._enter(
            fate, most if fate.ask.max_tokens is None else min(fate.ask.max_tokens, most), 0
        )

    def begin_drain(self) -> None:
        """Take nothing new; the fleet sends nothing either."""

    def give_up(self, now: float) -> None:
        """The time for draining is over: what is left is cut."""
        for name, fate in list(self._fates.items()):
            self._abort(name)
            self._fates.pop(name)
            fate.end("deadline", now)

    def _abort(self, name: str) -> None:
        self.player.abort(name)

    def _room(self, ask: SimRequest) -> int:
        return self.profile.max_model_len - ask.prompt

    def _enter(
        self,
        fate: Outcome,
        cap: int,
        priority: int,
        now: float | None = None,
        *,
        marks: SchedulingHints = _UNMARKED,
    ) -> None:
        ask, name = fate.ask, f"{fate.ask.number:09}"
        request = EngineRequest(
            name,
            ask.ids or range(ask.number, ask.number + ask.prompt),
            cap,
            ask.answer,
            priority,
            ask.salt,
            ask.answer_ids or range(1, self.profile.max_model_len + 1),
            *marks,
        )
        self._fates[name] = fate
        self.player.add(request, ask.at_s if now is None else now)

    def _tell(self, done: Done) -> list[str]:
        """Outputs to their requests; the names of those that have ended."""
        now, over = done.ends[-1], []
        for output in done.outputs:
            fate = self._fates[output.request_id]
            fate.tokens += output.new_tokens
            if fate.first_at is None:
                fate.first_at, fate.cached = done.ends[0], output.cached_tokens
            if output.finish is not None:
                over.append(output.request_id)
                del self._fates[output.request_id]
                fate.end("ok", now)
        return over


@dataclass(slots=True)
class _Running:
    ticket: Ticket
    sequence: Sequence


class GatedReplica(OpenReplica):
    """A replica with Forebay's gate."""

    def __init__(
        self,
        name: str,
        profile: EngineProfile,
        config: AdmissionConfig,
        teach: Teach,
        *,
        default_output: int = 256,
        skip: bool = True,
    ) -> None:
        """Nothing is admitted yet; `default_output` tokens are expected of an answer at first."""
        super().__init__(name, profile, skip=skip)
        costs = CostModel(profile.max_model_len, default_output)
        self.core = ReplicaCore(config, costs, lambda: 0.0)
        self.admission = self.core.admission
        teach(self.admission, profile)
        self._running: dict[str, _Running] = {}
        self._held: dict[Ticket, Outcome] = {}  # admitted, and not in the engine yet
        self._names: dict[Ticket, str] = {}
        self._published = self._read = 0

    @property
    def holds(self) -> bool:
        """See `OpenReplica`."""
        return self.core.held > 0

    def advance(self, now: float) -> None:
        """Go on until `now`, giving up on the way what is late."""
        while (due_at := self.core.next_due) <= now:
            super().advance(due_at)  # some may begin just in time
            for ticket in self.core.due(due_at):
                self._expire(self._names[ticket], due_at)
        super().advance(now)

    def _expire(self, name: str, now: float) -> None:
        self._abort(name)
        ticket = self._running.pop(name).ticket
        self._fates.pop(name).end("deadline", now)
        self._enter_all(self._close(ticket, now), now)

    def _close(self, ticket: Ticket, now: float) -> list[Ticket]:
        del self._names[ticket]
        return self.core.close(ticket, now)

    def _abort(self, name: str) -> None:
        if self._held.pop(self._running[name].ticket, None) is None:
            super()._abort(name)

    def arrive(self, fate: Outcome, now: float) -> None:
        """The gate's decision."""
        fate.replica = self.name
        ask, admission = fate.ask, self.admission
        cost = admission.costs.price(
            RequestShape(
                prompt_bytes=0,
                prompt_ids=ask.prompt,
                max_tokens=ask.max_tokens,
                cached_tokens=fate.promised,
            )
        )
        decision = self.core.offer(cost, (ask.tenant, ask.class_name), now)
        if isinstance(decision, Shed):
            fate.reason = decision.reason
            fate.end("shed", now)
            return
        ticket = decision.ticket
        name = f"{ask.number:09}"
        self._running[name] = _Running(ticket, ticket.sequences[0])
        self._fates[name] = self._held[ticket] = fate
        self._names[ticket] = name
        self._enter_all(decision.released, now)

    def _enter_all(self, released: Iterable[Ticket], now: float) -> None:
        """The engine receives what may go to it."""
        for ticket in released:
            if (fate := self._held.pop(ticket, None)) is not None:
                cap = ticket.cost.output_cap
                took = self.core.took(ticket, fate.ask.prompt, cap, now, self._chunks(fate.ask))
                self._enter(fate, cap, ticket.tag, now, marks=took.marks)

    def _chunks(self, ask: SimRequest) -> Chunks:
        return prompt_chunks(ask.ids, ask.salt) if self.profile.prefix_caching else ()

    def begin_drain(self) -> None:
        """Refuse what may still come."""
        self.admission.draining = True

    def give_up(self, now: float) -> None:
        """See `OpenReplica`."""
        super().give_up(now)
        for one in self._running.values():
            self._close(one.ticket, now)
        self._running.clear()

    def _tell(self, done: Done) -> list[str]:
        steps = [
            StepOutput(
                self._running[output.request_id].sequence,
                output.new_tokens,
                output.cached_tokens,
                output.finish is not None,
                output.finish == "stop",
            )
            for output in done.outputs
        ]
        released = self.core.steps(steps, done.ends) if steps else []
        over, now = super()._tell(done), done.ends[-1]
        for name in over:
            released += self._close(self._running.pop(name).ticket, now)
        self._enter_all(released, now)
        return over

    def publish(self, now: float) -> ReplicaStats:
        """What the router reads."""
        self._published += 1
        typical = self.admission.predict_typical(INTERACTIVE, now)
        return ReplicaStats(
            sequence=self._published,
            wait_s=typical.total_s,
            prefill_rate=self.admission.paces.drain_rate,
            overhead_s=typical.overhead_s,
            kv_tokens=self.profile.kv_tokens,
            arrivals=self.core.arrivals,
            prompt_tokens=self.core.prompt_tokens,
            cached_tokens=self.core.cached_tokens,
            answer_s=self.admission.answer_s,
            held_s=self.admission.held_s,
            ongoing=self.admission.ongoing,
        )

    def reading(self) -> ReplicaReading:
        """What the autoscaler reads."""
        self._read += 1
        return reading_of(self.admission, self.core.offered, self._read)
