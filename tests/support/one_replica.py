"""One replica in virtual time: admission in front of the engine model, as the gate and the tap do.

No clock, no threads: minutes of traffic take seconds, and the same traffic gives the same figures.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from admissions import CLASSES, config_of

from forebay.engine_model import (
    PROFILES,
    EngineModel,
    EngineProfile,
    EngineRequest,
    Output,
    Step,
    StepTime,
)
from forebay.measure import percentile
from forebay.policies.admission import AdmissionController
from forebay.policies.replica import ReplicaCore
from forebay.policies.request import (
    INTERACTIVE,
    Admitted,
    ClassPolicy,
    Cost,
    CostModel,
    RequestShape,
    Shed,
    StepOutput,
    Ticket,
    part_tokens,
)
from forebay.policies.request import Sequence as Answer


def _as_served(profile: EngineProfile) -> EngineProfile:
    """As Forebay runs it; every prompt is another one, so no time goes into looking in a cache."""
    part = part_tokens(profile.max_num_batched_tokens)
    return replace(profile, prefix_caching=False).with_forebay_scheduler(part)


# The demo's limits, and round figures near its speed: what tests say of an engine must not change
# when a profile is fitted anew.
DEMO = replace(
    _as_served(PROFILES["demo-cpu"]),
    step_time=StepTime(base=2.5e-3, prefill_token=25e-6, decode_sequence=0.1e-3),
)
H100 = _as_served(PROFILES["h100-8b"])


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: when it comes, in seconds, and how large it is, in tokens.

    `shared` tokens of its prompt are those that all such prompts of its tenant begin with.
    """

    at: float
    prompt: int
    answer: int
    tenant: str = ""
    class_name: str = INTERACTIVE
    max_tokens: int | None = -1  # -1: the answer's own length; None: the client sets none
    shared: int = 0
    patience_s: float = math.inf  # for which its client waits for a first token


@dataclass(slots=True)
class Fate:
    """What became of a request."""

    ask: Ask
    shed: Shed | None = None
    predicted_s: float | None = None
    ticket: Ticket | None = None
    first_at: float | None = None
    ended_at: float | None = None

    @property
    def ttft_s(self) -> float | None:
        """Seconds from the request's arrival to its first token; None without one."""
        return None if self.first_at is None else self.first_at - self.ask.at

    @property
    def good(self) -> bool:
        """Whether its first token came within the budget of its class."""
        return self.ttft_s is not None and self.ttft_s <= CLASSES[self.ask.class_name].ttft_s


@dataclass(slots=True)
class _Running:
    fate: Fate
    sequence: Answer


@dataclass
class OneReplica:
    """A replica and the traffic that it gets.

    Attributes:
        profile: the engine.
        tpot_s: promised pace; None: none is.
        batch_stretch: as in `AdmissionConfig`.
        classes: likewise.
        weights: of tenants.
        stalls: (from, until) in seconds: no step ends in between.
        warm: whether it is warmed up first, as a replica is.
        check: called after every event; for invariants.
        plays: makes the engine of its profile.
    """

    profile: EngineProfile = DEMO
    tpot_s: float | None = None
    batch_stretch: float = 1.7
    classes: Mapping[str, ClassPolicy] = field(default_factory=lambda: CLASSES)
    weights: dict[str, float] = field(default_factory=dict)
    stalls: tuple[tuple[float, float], ...] = ()
    warm: bool = True
    seed: int = 1
    check: Callable[[AdmissionController], None] | None = None
    plays: Callable[[EngineProfile], Any] = EngineModel

    def __post_init__(self) -> None:
        config = config_of(
            self.profile,
            classes=self.classes,
            tpot_s=self.tpot_s,
            batch_stretch=self.batch_stretch,
        )
        costs = CostModel(self.profile.max_model_len, 256)
        self.core = ReplicaCore(config, costs, random.Random(self.seed).random)
        self.admission = self.core.admission
        self.admission.fair.set_weights(self.weights)
        self.engine = self.plays(self.profile)
        self.now = 0.0
        self.fates: list[Fate] = []
        self._step: Step | None = None
        self._running: dict[str, _Running] = {}
        self._leaving: list[tuple[float, int, Ticket]] = []  # when clients lose patience
        self._names: dict[Ticket, str] = {}
        self._numbers = 0
        self._waiting: dict[Ticket, tuple[str, Fate, int]] = {}  # not in the engine yet
        if self.warm:
            self._warm_up()

    def _warm_up(self) -> None:
        """As `serving/engine/warm_up.py` does, less the round that compiles."""
        long = min(4 * self.profile.max_num_batched_tokens, self.profile.max_model_len // 2)
        usual = [*(4 * [16]), *(8 * [512])]
        took_s = []
        for lengths in (usual, [long], self.profile.max_num_seqs * [16]):
            began = self.now
            fates = self.run([Ask(began, tokens, 16) for tokens in lengths])
            took_s.append(max((f.first_at or began) - began for f in fates))
        self.admission.forget_warm_up()
        self.admission.waits.own.saw_long(self.price(Ask(0.0, long, 16)), took_s[1])
        self.fates.clear()

    def run(self, asks: Iterable[Ask], until: float | None = None) -> list[Fate]:
        """Serve requests, the earliest first, to the end or until then (s); what became of each."""
        began = len(self.fates)
        for ask in sorted(asks, key=lambda ask: ask.at):
            self._steps_until(ask.at)
            self.arrive(ask)
        self._steps_until(float("inf") if until is None else until)
        return self.fates[began:]

    def _steps_until(self, moment: float) -> None:
        while self._step is not None:
            ends_at = self._ends_at(self._step)
            due_at = min(self.core.next_due, self._leaving[0][0] if self._leaving else math.inf)
            if min(due_at, ends_at) > moment:
                break
            if due_at <= ends_at:
                self.now = max(self.now, due_at)
                self._give_up()
            else:
                self.now = ends_at
                outputs = self.engine.finish_step()
                # The engine does not wait for what the gate makes of a step: the next has begun.
                self._step = self.engine.start_step(self.now)
                self._hand_out(outputs)
            self._checked()
        self.now = max(self.now, moment) if moment != float("inf") else self.now

    def _ends_at(self, step: Step) -> float:
        for begin, end in self.stalls:
            if step.started_at < end and step.ends_at > begin:
                return end + step.duration_s
        return step.ends_at

    def price(self, ask: Ask, cached: int = 0) -> Cost:
        """What it is expected to cost with `cached` tokens of its prompt in the cache."""
        most = ask.answer if ask.max_tokens == -1 else ask.max_tokens
        return self.admission.costs.price(
            RequestShape(
                prompt_bytes=0, prompt_ids=ask.prompt, max_tokens=most, cached_tokens=cached
            )
        )

    def arrive(self, ask: Ask, cached: int = 0, retries: int = 0) -> Fate:
        """A request comes now, which was refused so often before."""
        fate = Fate(ask)
        self.fates.append(fate)
        cost = self.price(ask, cached)
        decision = self.core.offer(cost, (ask.tenant, ask.class_name), self.now, retries=retries)
        if isinstance(decision, Admitted):
            self._add(fate, decision, cost.output_cap)
        else:
            fate.shed = decision
        self._checked()
        return fate

    def _add(self, fate: Fate, decision: Admitted, cap: int) -> None:
        ticket = decision.ticket
        fate.ticket, fate.predicted_s = ticket, decision.predicted_s
        self._numbers += 1
        name = f"{self._numbers:09}"
        self._waiting[ticket] = name, fate, cap
        self._names[ticket] = name
        if fate.ask.patience_s < math.inf:
            entry = self.now + fate.ask.patience_s, self._numbers, ticket
            heapq.heappush(self._leaving, entry)
        self._enter_all(decision.released)

    def _enter_all(self, released: Iterable[Ticket]) -> None:
        """The engine receives what may go to it."""
        for ticket in released:
            if not ticket.closed:
                self._enter(ticket)
        if self._step is None:
            self._step = self.engine.start_step(self.now)

    def _enter(self, ticket: Ticket) -> None:
        name, fate, cap = self._waiting.pop(ticket)
        ask, number = fate.ask, int(name)
        request = EngineRequest(
            name,
            _tokens(ask, number),
            cap,
            ask.answer if cap != ask.answer else ask.answer + 1,
            ticket.tag,
            ask.tenant or None,
            range(1, self.profile.max_model_len + 1),
        )
        bound = self.core.took(ticket, ask.prompt, cap, self.now)
        request = replace(request, **bound.marks._asdict())
        self._running[name] = _Running(fate, bound)
        self.engine.add(request, self.now)

    def _give_up(self) -> None:
        """Requests end whose deadline has passed, or whose client waits no longer."""
        for ticket in self.core.due(self.now):
            self._end(ticket)
        while self._leaving and self._leaving[0][0] <= self.now:
            ticket = heapq.heappop(self._leaving)[2]
            if not ticket.closed and ticket.first_token_at is None:
                self._end(ticket)

    def leave(self, fate: Fate) -> None:
        """The client of a request has gone."""
        assert fate.ticket is not None
        self._end(fate.ticket)

    def _end(self, ticket: Ticket) -> None:
        """The request is over before its time, in the engine or at the gate."""
        self.engine.abort(self._names[ticket])
        self._enter_all(self._close(ticket))

    def _close(self, ticket: Ticket) -> list[Ticket]:
        name = self._names.pop(ticket)
        self._waiting.pop(ticket, None)
        self._running.pop(name, None)
        return self.core.close(ticket, self.now)

    def _hand_out(self, outputs: list[Output]) -> None:
        steps, over = [], []
        for output in outputs:
            one = self._running[output.request_id]
            ended = output.finish is not None
            if one.fate.first_at is None:
                one.fate.first_at = self.now
            if ended:
                one.fate.ended_at = self.now
                over.append(one.sequence.ticket)
            steps.append(
                StepOutput(
                    one.sequence,
                    output.new_tokens,
                    output.cached_tokens,
                    ended,
                    output.finish == "stop",
                )
            )
        released = self.core.step(steps, self.now, self.now) if steps else []
        for ticket in over:
            released += self._close(ticket)
        self._enter_all(released)

    def _checked(self) -> None:
        if self.check is not None:
            self.check(self.admission)


def _tokens(ask: Ask, number: int) -> Sequence[int]:
    """Its prompt: no other one's, but for what is shared."""
    own = range(number, number + ask.prompt - ask.shared)
    return [*range(-ask.shared, 0), *own] if ask.shared else own


def poisson(
    rate: float,
    seconds: float,
    prompt: int,
    answer: int,
    *,
    start: float = 0.0,
    seed: int = 7,
    **more: object,
) -> list[Ask]:
    """Requests of one size at exponential gaps, `rate` a second."""
    rng = random.Random(seed)
    asks, at = [], start
    while (at := at + rng.expovariate(rate)) < start + seconds:
        asks.append(Ask(at, prompt, answer, **more))  # type: ignore[arg-type]
    return asks


def capacity(
    prompt: int,
    answer: int,
    profile: EngineProfile = DEMO,
    plays: Callable[[EngineProfile], Any] = EngineModel,
) -> float:
    """Requests/s of one size that the engine finishes when it never lacks any."""
    engine, count = plays(profile), 20 * profile.max_num_seqs
    for number in range(count):
        tokens = range(number, number + prompt)
        engine.add(
            EngineRequest(f"{number:06}", tokens, answer, answer + 1, answer=range(1, answer + 1)),
            0.0,
        )
    now, ended, marks = 0.0, 0, []
    while (step := engine.start_step(now)) is not None:
        now = step.ends_at
        ended += sum(output.finish is not None for output in engine.finish_step())
        marks.append((now, ended))
    first = next(mark for mark in marks if mark[1] >= count // 4)
    last = next(mark for mark in marks if mark[1] >= 3 * count // 4)
    finished: float = (last[1] - first[1]) / (last[0] - first[0])
    return finished


def p(fates: Iterable[Fate], rank: float) -> float:
    """Percentile of the TTFT of those that got a first token, seconds."""
    value = percentile([fate.ttft_s for fate in fates if fate.ttft_s is not None], rank)
    assert value is not None, "nobody got a first token"
    return value
