"""What Forebay puts around one engine, whichever it is: gate, tap, admission and their counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from forebay.measure import StepLateness
from forebay.observability import catalogue
from forebay.observability.metric import Metric
from forebay.observability.status import ClassStatus, ReplicaStatus
from forebay.policies.offered_work import reading_of
from forebay.policies.replica import ReplicaCore
from forebay.policies.request import INTERACTIVE, AdmissionConfig, ClassPolicy, CostModel
from forebay.policies.routing import OwnPrefixes
from forebay.serving.control import FleetStatus, QuotaSync, ask_routers, ask_scaling_log
from forebay.serving.engine import Backend, EngineHooks, FailedEngine, StartClock, Telemetry
from forebay.serving.gate import Gate, Tenancy
from forebay.serving.http import App, InputLimits
from forebay.serving.names import READING_PREFIX
from forebay.serving.scaling import node_seconds
from forebay.spec.service import ServiceSpec
from forebay.spec.tenants import LastGood, TenantsFile

_FLUSH_S = 1.0
_FIRST_HEARD_S = 60.0  # who was refused while no replica was there comes back within that


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What the engine says of itself.

    Attributes:
        slots: sequences it runs at once.
        kv_tokens: tokens that its KV blocks hold.
        step_tokens: most tokens it computes in one step.
        context_tokens: most tokens of prompt and answer together.
        longest_token: most bytes of text that one token stands for.
        stop_reason: its finish reason for an answer that ended by itself.
        prefix_caching: whether prompts that begin alike share KV blocks.
        heeds_marks: as in `AdmissionConfig`.
    """

    slots: int
    kv_tokens: int
    step_tokens: int
    context_tokens: int
    longest_token: int
    stop_reason: object
    prefix_caching: bool
    heeds_marks: bool = True


class Replica:
    """The front door of one replica."""

    def __init__(
        self,
        spec: ServiceSpec,
        engine: EngineLimits,
        clock: Callable[[], float],
        *,
        name: str,
        seed: int,
        lateness: StepLateness | None = None,
        start: StartClock | None = None,
        has_failed: Callable[[], bool] = lambda: False,
        last_good: LastGood | None = None,
    ) -> None:
        """Nothing is admitted yet.

        Args:
            spec: the service.
            engine: what is behind.
            clock: seconds.
            name: of this replica in what it publishes.
            seed: of the jitter of Retry-After.
            lateness: of an emulated engine; None of a real one.
            start: how far this replica's start has come; None: it is not watched.
            has_failed: whether the engine has died.
            last_good: of the tenants file, shared by the fleet; None: by nobody.
        """
        self.spec = spec
        self.name = name
        self.clock = clock
        self._lateness = lateness
        self._start = start
        self._has_failed = has_failed
        self._engine = engine
        self.telemetry = Telemetry(clock)
        limits = AdmissionConfig(
            classes=class_policies(spec),
            slots=engine.slots,
            kv_tokens=engine.kv_tokens,
            step_tokens=engine.step_tokens,
            margin=spec.admission.margin,
            tpot_s=spec.slo.tpot_p99 * spec.model.slowed,
            max_queued_tokens=spec.admission.max_queued_tokens,
            batch_stretch=spec.admission.batch_stretch,
            heeds_marks=engine.heeds_marks,
        )
        costs = CostModel(engine.context_tokens, spec.admission.default_output_tokens)
        self.core = ReplicaCore(limits, costs, random.Random(seed).random)
        self.admission = self.core.admission
        self.tap = EngineHooks(
            self.core,
            self.telemetry,
            clock,
            engine.stop_reason,
            spec.admission.max_output_tokens,
            prefix_caching=engine.prefix_caching,
        )
        self.tenancy = Tenancy(spec, name, clock, self.admission.fair, last_good)
        self._prefixes = OwnPrefixes() if spec.scaling.stays_at_one else None
        self.ready_at: float | None = None
        self._published = self._read = 0
        self._tasks: list[asyncio.Task[None]] = []

    def gate(self, app: App) -> Gate:
        """The engine's HTTP app behind the gate."""
        limits = InputLimits(
            max_body=self.spec.server.max_body,
            max_depth=self.spec.server.max_json_depth,
            max_samples=self.spec.admission.max_n,
            context_tokens=self._engine.context_tokens,
            max_output_tokens=self.spec.admission.max_output_tokens,
            longest_token=self._engine.longest_token,
            caches_apart=self.spec.cache_isolation == "tenant",
        )
        gate = Gate(
            FailedEngine(app, self._has_failed),
            self.core,
            self.tap,
            limits,
            self.telemetry,
            self.tenancy,
            self.clock,
            self._prefixes,
        )
        ask_scaling = ask_scaling_log(self.spec.name) if self._scales else None
        if not self.spec.scaling.min:
            self.core.retries_new_until = self.clock() + _FIRST_HEARD_S
        ask = self._fleet_of_one if self.spec.scaling.stays_at_one else ask_routers(self.spec.name)
        gate.fleet = FleetStatus(self.spec.name, ask, self.clock, ask_scaling)
        return gate

    async def _fleet_of_one(self) -> list[dict[str, Any]]:
        return [self.publish()]

    def go_on_duty(self, backend: Backend) -> None:
        """Report counts every second and share the fleet's quotas, from now on.

        Call it from a running event loop.
        """
        self.ready_at = self.clock()
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._flush_forever(backend)))
        if self._start is not None and self._scales:
            self._tasks.append(loop.create_task(self._tell_start(self._start)))
        if not self.tenancy.is_open:
            exchange = QuotaSync(self.tenancy, self.spec.name)
            self.tenancy.ask_fleet = exchange.now
            self.tenancy.say_goodbye = exchange.goodbye
            self._tasks.append(loop.create_task(exchange.forever()))
            self._tasks.append(loop.create_task(self.tenancy.watch()))

    @property
    def _scales(self) -> bool:
        return self.spec.scaling.min < self.spec.scaling.max

    async def _tell_start(self, start: StartClock) -> None:
        """Have the log say how long this replica's node took: it knows when it was asked for."""
        waited = await node_seconds(self.spec.name, start.began)
        if waited is not None:
            start.seconds = {"node": waited, **start.seconds}

    async def _flush_forever(self, backend: Backend) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            self.telemetry.flush(backend, self._gauges())
            self._learn_prefixes()

    def _learn_prefixes(self) -> None:
        if self._prefixes is None:
            return
        seen, cached = catalogue.PROMPT_TOKENS, catalogue.CACHED_TOKENS
        held_bytes = self._engine.kv_tokens * self.admission.costs.bytes_per_token
        self._prefixes.observe(self.telemetry.total(seen), self.telemetry.total(cached), held_bytes)

    def _gauges(self) -> dict[Metric, float]:
        ledger, late = self.admission.ledger, self._lateness.p99 if self._lateness else None
        emulation = {} if late is None else {catalogue.EMULATION_LATE: late}
        return {
            **emulation,
            catalogue.QUEUED: ledger.queued_sequences,
            catalogue.HELD: len(ledger.at_gate),
            catalogue.QUEUED_TOKENS: ledger.queued_prefill,
            catalogue.RUNNING: len(ledger.running),
            catalogue.SLOTS: self.admission.config.slots,
            catalogue.KV_USAGE: ledger.kv_held / self.admission.config.kv_tokens,
            catalogue.PREFILL_RATE: self.admission.paces.drain_rate,
        }

    def begin_drain(self) -> None:
        """Refuse what is new and finish what is running."""
        self.admission.draining = True

    @property
    def _takes_nothing(self) -> bool:
        """Whether routers should pass this replica over."""
        return self.admission.draining or self._has_failed()

    def publish(self) -> dict[str, Any]:
        """What routers and the live line read: waits, rates and running totals."""
        self._published += 1
        typical = self.admission.predict_typical(INTERACTIVE, self.clock())
        return {
            "sequence": self._published,
            "posts": self.telemetry.posts,
            "wait_s": typical.total_s,
            "prefill_rate": self.admission.paces.drain_rate,
            "overhead_s": typical.overhead_s,
            "answer_s": self.admission.answer_s,
            "held_s": self.admission.held_s,
            "ongoing": self.admission.ongoing,
            "tickets": len(self.admission.ledger.tickets),  # until clients have their answers
            "seconds_per_token": self.admission.paces.seconds_per_token,
            "draining": self._takes_nothing,
            "kv_tokens": self.admission.config.kv_tokens,
            "context_tokens": self.admission.costs.context_tokens,
            "bytes_per_token": self.admission.costs.bytes_per_token,
            **{metric.name: value for metric, value in self._gauges().items()},
            **{
                metric.name: self.telemetry.total(metric)
                for metric in catalogue.CATALOGUE
                if metric.kind == "counter"
            },
            **self.telemetry.recent_ttft(),
            "status": self.status(),
        }

    def reading(self) -> dict[str, float]:
        """What the autoscaler reads (`policies.demand_meter.ReplicaReading`)."""
        self._read += 1
        counted = reading_of(self.admission, self.core.offered, self._read)
        start = self._start if self.ready_at is not None else None
        reading = replace(counted, start_s=0.0 if start is None else start.own_s)
        return {READING_PREFIX + name: float(value) for name, value in asdict(reading).items()}

    def status(self) -> ReplicaStatus:
        """This replica's part of `/forebay/status`."""
        admission, telemetry = self.admission, self.telemetry
        recent = telemetry.recent_ttft()
        return {
            "replica": self.name,
            "at_s": self.clock(),
            "draining": self._takes_nothing,
            "apart": self.tenancy.apart,
            "classes": {name: self._class_status(name) for name in admission.config.classes},
            "tenants": telemetry.by_first_label(catalogue.TENANT_TOKENS),
            "prefill_rate": admission.paces.drain_rate,
            "seconds_per_token": admission.paces.seconds_per_token,
            "slots": admission.config.slots,
            "kv_tokens": admission.config.kv_tokens,
            "kv_usage": admission.ledger.kv_held / admission.config.kv_tokens,
            "prompt_tokens": telemetry.total(catalogue.PROMPT_TOKENS),
            "cached_tokens": telemetry.total(catalogue.CACHED_TOKENS),
            "output_tokens": telemetry.total(catalogue.OUTPUT_TOKENS),
            "ttft_p50_s": recent["ttft_p50"],
            "ttft_p99_s": recent["ttft_p99"],
            "prediction_error": telemetry.prediction.error,
            "prediction_bias": telemetry.prediction.bias,
            "late_p99": self._lateness.p99 if self._lateness else None,
            "late_p99_so_far": self._lateness.p99_so_far if self._lateness else None,
            "start_s": self._start_s(),
        }

    def _start_s(self) -> dict[str, float]:
        """Seconds of each phase of the start; the last ends with a client's first token."""
        if self._start is None:
            return {}
        first = self.telemetry.first_answer_at
        if first is not None and self.ready_at is not None:
            self._start.seconds["first_answer"] = max(first - self.ready_at, 0.0)
        return dict(self._start.seconds)

    def _class_status(self, name: str) -> ClassStatus:
        admission, telemetry = self.admission, self.telemetry
        totals = admission.ledger.totals[name]
        return {
            "offered": telemetry.total_of(catalogue.OFFERED, name),
            "retried": telemetry.total_of(catalogue.RETRIED, name),
            "admitted": telemetry.total_of(catalogue.ADMITTED, name),
            "finished": telemetry.total_of(catalogue.FINISHED, name),
            "shed": telemetry.by_second_label(catalogue.SHED, name),
            "queued": totals.sequences,
            "held": totals.held,
            "running": totals.running,
            "queued_tokens": totals.prefill,
            "predicted_ttft_s": admission.predict_typical(name, self.clock()).total_s,
            "budget_s": admission.config.classes[name].ttft_s,
        }


def check_tenants(spec: ServiceSpec, last_good: LastGood) -> None:
    """Before anything that takes long: a replica without tenants could let nobody in.

    Raises:
        SpecError: the tenants file is wrong, and there is no last good version of it.
    """
    if spec.tenants is not None:
        TenantsFile(spec.tenants, 0.0, last_good)


def class_policies(spec: ServiceSpec) -> dict[str, ClassPolicy]:
    """The promises of a spec's classes, with what it leaves open filled in."""
    return {
        name: ClassPolicy(spec.ttft_budget(name), spec.deadline(name), entry.weight)
        for name, entry in spec.admission.classes.items()
    }
