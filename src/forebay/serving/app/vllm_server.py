"""The replica: Ray Serve LLM's server with the gate in front of vLLM's app."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ray.llm._internal.serve.core.server.llm_server import LLMServer

from forebay.serving.app import before_serve
from forebay.serving.app.accepting import accept_all_at_once
from forebay.serving.app.replica_process import EngineLimits, Replica, check_tenants
from forebay.serving.cluster_kv import report
from forebay.serving.control import SharedTenants
from forebay.serving.engine import OUTPUT_TOKENS, RayBackend, StartClock, replica_name
from forebay.serving.engine.warm_up import warm_up
from forebay.serving.gate import Gate
from forebay.serving.names import SPEC_KEY
from forebay.spec.service import ServiceSpec

_HTTP_METRICS = "PrometheusInstrumentatorMiddleware"
# Prompts are templated and tokenized in a thread of vLLM's while the event loop hands on tokens.
# With Python's 5 ms the thread waited that long for each turn; with a tenth of it the median TTFT
# at 0.8 of the demo's capacity fell from 56 to 42 ms, and an overloaded replica answered as many.
_THREAD_SWITCH_S = 0.0005


class ForebayServer(LLMServer):
    """One replica of a service."""

    def _get_default_engine_class(self) -> Any:
        from forebay.serving.engine.vllm_engine import ForebayEngine

        return ForebayEngine

    async def start(self) -> None:
        """Start the engine, saying how far it is."""
        self._spec: ServiceSpec = self._llm_config.experimental_configs[SPEC_KEY]
        check_tenants(self._spec, SharedTenants(self._spec.name))
        self._start_clock = StartClock()
        self._start_clock.done("image")
        report(self._spec.name, "engine")
        sys.setswitchinterval(_THREAD_SWITCH_S)
        await super().start()
        self._start_clock.done("weights")  # and what vLLM compiles while it loads them
        report(self._spec.name, "warm-up")

    async def __serve_build_asgi_app__(self) -> Gate:
        """VLLM's app behind the gate, warmed up and measured once."""
        accept_all_at_once()  # by the HTTP server that Serve starts next
        app = await super().__serve_build_asgi_app__()
        _drop_http_metrics(app)
        self._replica = Replica(
            self._spec,
            self._limits(),
            time.monotonic,
            name=replica_name(),
            seed=os.getpid(),
            start=self._start_clock,
            has_failed=lambda: self.engine.client.errored,
            last_good=SharedTenants(self._spec.name),
        )
        self.engine.client.attach(self._replica.tap)
        await self._warm_up()
        self._start_clock.done("warm_up")
        name = self._replica.name
        self._replica.go_on_duty(RayBackend({"service": self._spec.name, "replica": name}))
        report(self._spec.name, "ready")
        gate = self._replica.gate(app)
        before_serve.attach(gate)
        return gate

    def _limits(self) -> EngineLimits:
        from forebay.serving.engine.vllm_engine import STOP, heeds_marks

        config = self.engine.client.vllm_config
        cache, scheduler = config.cache_config, config.scheduler_config
        vocabulary = self.engine.client.get_tokenizer().get_vocab()
        return EngineLimits(
            slots=scheduler.max_num_seqs,
            # Of models with several kinds of attention, blocks say more than what they hold.
            kv_tokens=cache.kv_cache_size_tokens or cache.num_gpu_blocks * cache.block_size,
            step_tokens=scheduler.max_num_batched_tokens,
            context_tokens=config.model_config.max_model_len,
            longest_token=max(len(token.encode()) for token in vocabulary),
            stop_reason=STOP,
            prefix_caching=cache.enable_prefix_caching,
            heeds_marks=heeds_marks(scheduler),
        )

    async def _warm_up(self) -> None:
        replica, client = self._replica, self.engine.client
        vocabulary = client.model_config.get_vocab_size()
        await warm_up(replica.admission, replica.tap, vocabulary, replica.clock, self._run_prompt)
        await client.reset_prefix_cache()
        replica.telemetry.forget()

    async def _run_prompt(self, prompt: list[int]) -> None:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        params = SamplingParams(
            max_tokens=OUTPUT_TOKENS, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        name = f"warm-up-{id(prompt)}"
        async for _ in self.engine.client.generate({"prompt_token_ids": prompt}, params, name):
            pass

    async def begin_drain(self) -> None:
        """Refuse what is new and finish what is running."""
        self._replica.begin_drain()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """What the autoscaler reads: what was offered, what waits, what this replica can do."""
        return self._replica.reading()

    async def record_routing_stats(self) -> dict[str, Any]:
        """What routers and the live line read: waits, rates and running totals."""
        return self._replica.publish()


def _drop_http_metrics(app: Any) -> None:
    """Take out the middleware that counts HTTP requests for vLLM's own `/metrics`.

    That route is closed, since one replica's answer says nothing of the others'; counting for it
    costs some microseconds for every token of every stream.
    """
    app.user_middleware = [m for m in app.user_middleware if m.cls.__name__ != _HTTP_METRICS]
    app.middleware_stack = None  # built again, without it, at the first request
