"""The replica of an emulated engine: a Ray Serve deployment without Ray Serve LLM."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from forebay.engine_model import PROFILES, EngineProfile
from forebay.policies.request import part_tokens
from forebay.serving.app import before_serve
from forebay.serving.app.accepting import accept_all_at_once
from forebay.serving.app.replica_process import EngineLimits, Replica, check_tenants
from forebay.serving.cluster_kv import report
from forebay.serving.control import SharedTenants
from forebay.serving.emulated import LONGEST_BYTES, STOP, EmulatedEngine, pass_cold_start, teach
from forebay.serving.emulated.api import EmulatedApi
from forebay.serving.engine import RayBackend, StartClock, replica_name
from forebay.serving.gate import Gate
from forebay.spec.service import ServiceSpec


def served(engine: EngineProfile) -> EngineProfile:
    """An engine as Forebay starts it: like vLLM's, it computes very long prompts in parts."""
    if engine.long_prefill_token_threshold:
        return engine
    return engine.with_forebay_scheduler(part_tokens(engine.max_num_batched_tokens))


_AHEAD = -10  # nice


def run_ahead_of_others() -> None:
    """Run this thread before processes of usual priority, where the system permits that.

    An engine on a GPU does not wait while replicas beside it import their modules.
    """
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _AHEAD)


class EmulatedServer:
    """One replica of a service whose engine is emulated."""

    def __init__(self, spec: ServiceSpec) -> None:
        self._spec = spec
        check_tenants(spec, SharedTenants(spec.name))
        self._start = StartClock()
        self._start.done("image")
        report(spec.name, "engine")

    async def __serve_build_asgi_app__(self) -> Gate:
        """The emulated engine's app behind the gate, warmed up and measured once."""
        accept_all_at_once()  # by the HTTP server that Serve starts next
        model = self._spec.model
        await pass_cold_start(model.cold_start * model.slowed, self._start)
        run_ahead_of_others()
        engine = served(PROFILES[model.source])
        if model.slowed != 1:
            engine = engine.slowed(model.slowed)
        self._engine = EmulatedEngine(engine, time.perf_counter)
        limits = EngineLimits(
            slots=engine.max_num_seqs,
            kv_tokens=engine.kv_tokens,
            step_tokens=engine.max_num_batched_tokens,
            context_tokens=engine.max_model_len,
            longest_token=LONGEST_BYTES,
            stop_reason=STOP,
            prefix_caching=engine.prefix_caching,
            heeds_marks=engine.forebay_scheduler,
        )
        # On Linux time.perf_counter and time.monotonic are one clock.
        self._replica = Replica(
            self._spec,
            limits,
            time.monotonic,
            name=replica_name(),
            seed=os.getpid(),
            lateness=self._engine.lateness,
            start=self._start,
            last_good=SharedTenants(self._spec.name),
        )
        self._engine.attach(self._replica.tap)
        teach(self._replica.admission, engine)
        name = self._replica.name
        self._replica.go_on_duty(RayBackend({"service": self._spec.name, "replica": name}))
        report(self._spec.name, "ready")
        gate = self._replica.gate(EmulatedApi(self._engine, model.id))
        before_serve.attach(gate)
        return gate

    async def begin_drain(self) -> None:
        """Refuse what is new and finish what is running."""
        self._replica.begin_drain()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaler reads: what was offered, what waits, what this replica can do."""
        return self._replica.reading()

    async def record_routing_stats(self) -> dict[str, Any]:
        """What routers and the live line read: waits, rates and running totals."""
        return self._replica.publish()
