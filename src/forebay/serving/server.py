"""The replica: Ray Serve LLM's server with the gate in front of vLLM's app."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

from ray.llm._internal.serve.core.server.llm_server import LLMServer

from forebay.observability import catalogue
from forebay.policies.admission import (
    INTERACTIVE,
    AdmissionConfig,
    AdmissionController,
    Admitted,
    ClassPolicy,
)
from forebay.policies.cost import CostModel, RequestShape
from forebay.serving.bodies import InputLimits
from forebay.serving.gate import Gate
from forebay.serving.progress import report
from forebay.serving.tap import CURRENT_TICKET, EngineTap
from forebay.serving.telemetry import RayBackend, Telemetry
from forebay.spec.service import ServiceSpec

_FLUSH_S = 1.0
_WARM_UP_PROMPTS = 8
_WARM_UP_TOKENS = 512
_SHORT_PROMPT = 16
_WARM_UP_OUTPUT = 16
_HTTP_METRICS = "PrometheusInstrumentatorMiddleware"
SPEC_KEY = "forebay"  # where the spec travels in LLMConfig.experimental_configs


class ForebayServer(LLMServer):
    """One replica of a service."""

    def _get_default_engine_class(self) -> Any:
        from forebay.serving.engine import ForebayEngine

        return ForebayEngine

    async def start(self) -> None:
        """Start the engine, saying how far it is."""
        self._spec: ServiceSpec = self._llm_config.experimental_configs[SPEC_KEY]
        report(self._spec.name, "engine")
        await super().start()
        report(self._spec.name, "warm-up")

    async def __serve_build_asgi_app__(self) -> Gate:
        """VLLM's app behind the gate, warmed up and measured once."""
        app = await super().__serve_build_asgi_app__()
        _drop_http_metrics(app)
        clock = time.monotonic
        self._telemetry = Telemetry(clock)
        self._admission = self._build_admission()
        self._tap = EngineTap(self._admission, self._telemetry, clock, _stop_reason())
        self.engine.client.attach(self._tap)
        await self._warm_up()
        self._published = 0
        self._flusher = asyncio.get_running_loop().create_task(self._flush_forever())
        report(self._spec.name, "ready")
        return Gate(app, self._admission, self._tap, self._input_limits(), self._telemetry, clock)

    def _build_admission(self) -> AdmissionController:
        spec, config = self._spec, self.engine.client.vllm_config
        model, cache, scheduler = config.model_config, config.cache_config, config.scheduler_config
        limits = AdmissionConfig(
            classes=class_policies(spec),
            slots=scheduler.max_num_seqs,
            kv_tokens=cache.num_gpu_blocks * cache.block_size,
            step_tokens=scheduler.max_num_batched_tokens,
            margin=spec.admission.margin,
            max_queued_tokens=spec.admission.max_queued_tokens,
        )
        costs = CostModel(model.max_model_len, spec.admission.default_output_tokens)
        return AdmissionController(limits, costs, random.Random(os.getpid()).random)

    def _input_limits(self) -> InputLimits:
        spec = self._spec
        return InputLimits(
            max_body=spec.server.max_body,
            max_depth=spec.server.max_json_depth,
            max_samples=spec.admission.max_n,
            context_tokens=self.engine.client.model_config.max_model_len,
            max_output_tokens=spec.admission.max_output_tokens,
            longest_token=self._longest_token(),
        )

    def _longest_token(self) -> int:
        """Most bytes that one token of the vocabulary can stand for."""
        vocabulary = self.engine.client.get_tokenizer().get_vocab()
        return max(len(token.encode()) for token in vocabulary)

    async def _warm_up(self) -> None:
        """Run a few prompts through the engine, so that its first rates are measured ones."""
        client = self.engine.client
        context = client.model_config.max_model_len
        size = min(_WARM_UP_TOKENS, max(context // 2, 1))
        vocabulary = client.model_config.get_vocab_size()
        rng = random.Random(0)
        # The first round compiles, the second measures how prompts drain, the third how fast
        # tokens come when every slot is taken.
        slots = self._admission.config.slots
        rounds = ((_WARM_UP_PROMPTS, size), (_WARM_UP_PROMPTS, size), (slots, _SHORT_PROMPT))
        for prompts, tokens in rounds:
            if tokens == size:
                self._admission.prefill_rate.seed(0.0, 0.0)
            made = [
                [rng.randrange(vocabulary // 2, vocabulary) for _ in range(tokens)]
                for _ in range(prompts)
            ]
            await asyncio.gather(*(self._run_prompt(prompt) for prompt in made))
        await client.reset_prefix_cache()

    async def _run_prompt(self, prompt: list[int]) -> None:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        shape = RequestShape(prompt_bytes=0, prompt_ids=len(prompt), max_tokens=_WARM_UP_OUTPUT)
        cost = self._admission.costs.price(shape)
        decision = self._admission.decide(cost, INTERACTIVE, time.monotonic())
        if not isinstance(decision, Admitted):
            return
        CURRENT_TICKET.set(decision.ticket)
        params = SamplingParams(
            max_tokens=_WARM_UP_OUTPUT, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        name = f"warm-up-{id(prompt)}"
        try:
            async for _ in self.engine.client.generate({"prompt_token_ids": prompt}, params, name):
                pass
        finally:
            self._admission.close(decision.ticket)
            self._tap.forget(decision.ticket)

    async def _flush_forever(self) -> None:
        backend = RayBackend({"service": self._spec.name, "replica": _replica_name()})
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._telemetry.flush(backend, self._gauges())

    def _gauges(self) -> dict[catalogue.Metric, float]:
        ledger = self._admission.ledger
        return {
            catalogue.QUEUED: ledger.queued_sequences,
            catalogue.QUEUED_TOKENS: ledger.queued_prefill,
            catalogue.RUNNING: len(ledger.running),
            catalogue.SLOTS: self._admission.config.slots,
            catalogue.KV_USAGE: ledger.kv_held / self._admission.config.kv_tokens,
            catalogue.PREFILL_RATE: self._admission.prefill_rate.rate,
        }

    async def begin_drain(self) -> None:
        """Refuse what is new and finish what is running."""
        self._admission.draining = True

    async def record_routing_stats(self) -> dict[str, Any]:
        """What routers and the live line read: waits, rates and running totals."""
        self._published += 1
        nothing = self._admission.costs.price(RequestShape(0, 1, max_tokens=1))
        prediction = self._admission.predict(nothing, INTERACTIVE, time.monotonic())
        return {
            "sequence": self._published,
            "wait_s": prediction.total_s,
            "prefill_rate": self._admission.prefill_rate.rate,
            "overhead_s": self._admission.overhead.at(time.monotonic()),
            "seconds_per_token": self._admission.seconds_per_token,
            "draining": self._admission.draining,
            "bytes_per_token": self._admission.costs.bytes_per_token,
            **{metric.name: value for metric, value in self._gauges().items()},
            **{
                metric.name: self._telemetry.total(metric)
                for metric in catalogue.CATALOGUE
                if metric.kind == "counter"
            },
            **self._telemetry.recent_ttft(),
        }


def class_policies(spec: ServiceSpec) -> dict[str, ClassPolicy]:
    """The promises of a spec's classes, with what it leaves open filled in."""
    policies: dict[str, ClassPolicy] = {}
    for name, entry in spec.admission.classes.items():
        ttft = entry.ttft if entry.ttft is not None else spec.slo.ttft_p99
        deadline = spec.admission.deadline if spec.admission.deadline is not None else 2 * ttft
        policies[name] = ClassPolicy(ttft, deadline, entry.weight)
    return policies


def _drop_http_metrics(app: Any) -> None:
    """Take out the middleware that counts HTTP requests for vLLM's own `/metrics`.

    That route is closed, since one replica's answer says nothing of the others'; counting for it
    costs some microseconds for every token of every stream.
    """
    app.user_middleware = [m for m in app.user_middleware if m.cls.__name__ != _HTTP_METRICS]
    app.middleware_stack = None  # built again, without it, at the first request


def _stop_reason() -> object:
    from forebay.serving.engine import STOP

    return STOP


def _replica_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)
