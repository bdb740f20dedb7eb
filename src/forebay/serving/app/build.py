"""From a service spec to a Ray Serve application."""

from __future__ import annotations

from typing import Any

from forebay.serving.app import environment
from forebay.serving.app.dtypes import engine_dtype
from forebay.serving.names import INGRESS_DEPLOYMENT, SPEC_KEY, STATS_PERIOD_S
from forebay.spec.service import ServiceSpec, emulated_cpus, placement_bundles, rays_name

_HEALTH_PERIOD_S = 2.0
# A saturated replica answers late, and a restart would only add to the load (ray#54070).
_HEALTH_TIMEOUT_S = 60.0
_UNBOUNDED = 10**9  # the gate bounds, in tokens; Serve must not queue in front of it


def llm_config(spec: ServiceSpec) -> Any:
    """Ray Serve LLM's configuration for this spec."""
    from ray.serve.llm import LLMConfig

    from forebay.serving.app.vllm_server import ForebayServer

    source = spec.model.source_path
    hardware: dict[str, Any] = (
        {"accelerator_config": {"kind": "cpu"}}
        if spec.hardware.is_cpu
        else {"accelerator_type": rays_name(spec)}
    )
    return LLMConfig(
        model_loading_config={
            "model_id": spec.model.id,
            "model_source": str(source) if source is not None else spec.model.source,
        },
        engine_kwargs=engine_kwargs(spec),
        placement_group_config={"bundles": placement_bundles(spec)},
        runtime_env={"env_vars": environment.replica_variables(spec)},
        server_cls=ForebayServer,
        experimental_configs={SPEC_KEY: spec},
        deployment_config={
            **deployment_options(spec),
            "ray_actor_options": {"num_cpus": 0},  # the engine's bundles hold the cores
        },
        log_engine_metrics=False,
        **hardware,
    )


def deployment_options(spec: ServiceSpec) -> dict[str, Any]:
    """What Serve is told of the replicas, whatever their engine."""
    return {
        "name": spec.name,
        "max_ongoing_requests": _UNBOUNDED,
        "health_check_period_s": _HEALTH_PERIOD_S,
        "health_check_timeout_s": _HEALTH_TIMEOUT_S,
        "graceful_shutdown_timeout_s": environment.longest_drain_s(spec),
        "graceful_shutdown_wait_loop_s": 0.5,
        "request_router_config": _routing(spec),
        **_replicas(spec),
    }


def _routing(spec: ServiceSpec) -> Any:
    """Who chooses a replica: our policy; where there is no choice, HAProxy goes by Serve's own."""
    from ray.serve.config import RequestRouterConfig

    from forebay.serving.router.fleet_router import ForebayRequestRouter

    if spec.scaling.stays_at_one:
        return RequestRouterConfig()
    return RequestRouterConfig(
        request_router_class=ForebayRequestRouter,
        request_router_kwargs={"routers": spec.server.routers},
        request_routing_stats_period_s=STATS_PERIOD_S,
    )


def engine_kwargs(spec: ServiceSpec) -> dict[str, Any]:
    """The engine's arguments: the file's own, and the few that Forebay sets."""
    kwargs = {
        **spec.model.engine_args,
        "dtype": engine_dtype(spec),
        "scheduling_policy": "priority",
        "disable_log_stats": True,  # see vllm_engine.py
    }
    if spec.hardware.is_cpu:
        kwargs["kv_cache_memory_bytes"] = spec.hardware.kv_cache
    return kwargs


def _replicas(spec: ServiceSpec) -> dict[str, Any]:
    from forebay.serving.app.scaling_settings import autoscaling_config

    if spec.scaling.min == spec.scaling.max:
        return {"num_replicas": spec.scaling.min, "autoscaling_config": None}
    return {"autoscaling_config": autoscaling_config(spec)}


def build(spec: ServiceSpec) -> Any:
    """The application: replicas that HAProxy streams to, and the ingress that picks among them.

    Decision record 0003 says why the ingress is attached by the hook that Ray uses itself, and 0026
    why a fleet that stays at one replica has none.
    """
    from ray import serve

    from forebay.serving.router import ForebayIngress

    replicas = _emulated(spec) if spec.model.is_emulated else _vllm(spec)
    if spec.scaling.stays_at_one:
        return replicas
    ingress = serve.deployment(
        serve.ingress()(ForebayIngress),
        name=INGRESS_DEPLOYMENT,
        max_ongoing_requests=_UNBOUNDED,
        ray_actor_options={
            "num_cpus": 0,
            "runtime_env": {"env_vars": environment.replica_variables(spec)},
        },
    ).bind(server=replicas)
    return replicas._with_ingress_request_router(ingress)


def _vllm(spec: ServiceSpec) -> Any:
    from ray.llm._internal.serve.core.ingress.builder import (
        _build_direct_streaming_llm_deployment,
    )

    return _build_direct_streaming_llm_deployment(llm_config(spec), name_prefix="")


def _emulated(spec: ServiceSpec) -> Any:
    """Replicas that take hardly any of the CPU and memory that their engines would."""
    from ray import serve

    from forebay.serving.app.emulated_server import EmulatedServer

    env = {"env_vars": environment.replica_variables(spec)}
    deployment = serve.deployment(
        serve.ingress()(EmulatedServer),
        ray_actor_options={"num_cpus": emulated_cpus(spec), "runtime_env": env},
        **deployment_options(spec),
    )
    return deployment.bind(spec=spec)
