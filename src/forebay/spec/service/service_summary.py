"""What `forebay check` says about a service that is fine: the decisions its file comes down to."""

from typing import Any

from forebay.spec.files import format_bytes, format_seconds, show_bytes
from forebay.spec.service.checks import local_model
from forebay.spec.service.floor_spec import FloorSpec
from forebay.spec.service.memory import context_tokens, weight_bytes
from forebay.spec.service.memory_fit import fit, why_unknown
from forebay.spec.service.model_folder import ModelFolder
from forebay.spec.service.placement import placement_bundles
from forebay.spec.service.service_spec import ServiceSpec
from forebay.spec.tenants import Tenants, load_tenants


def summarize(spec: ServiceSpec) -> dict[str, str]:
    """A line on each subject, in the order in which to read them.

    Raises:
        ModelFolderError: the model folder has gone since the service was loaded.
        SpecError: the tenants file has.
    """
    folder = local_model(spec)
    return {
        "service": f"{spec.name}, at http://{spec.server.host}:{spec.server.port}",
        "model": _model(spec, folder),
        "hardware": _hardware(spec),
        "memory": _memory(spec, folder),
        "slo": f"first token within {format_seconds(spec.slo.ttft_p99)}, then "
        f"{format_seconds(spec.slo.tpot_p99)} per token, for 99 of 100 requests"
        f"{_slower(spec)}",
        "admission": _admission(spec),
        "tenants": tenants_line(spec),
        "scaling": _scaling(spec),
        "placement": _placement(placement_bundles(spec)),
    }


def as_json(spec: ServiceSpec) -> dict[str, Any]:
    """The service with every default filled in, and what it comes down to."""
    return {
        "spec": spec.model_dump(mode="json"),
        "summary": summarize(spec),
        "placement_bundles": placement_bundles(spec),
    }


def _slower(spec: ServiceSpec) -> str:
    factor = spec.model.slowed
    return f"; both times {factor:g}, as the engine is slowed" if factor != 1 else ""


def _model(spec: ServiceSpec, folder: ModelFolder | None) -> str:
    if spec.model.is_emulated:
        slower = f", {spec.model.slowed:g} x slowed" if spec.model.slowed != 1 else ""
        return f"{spec.model.id}, emulated by the profile {spec.model.source}{slower}"
    parts = [f"{spec.model.id}, from {spec.model.source}", spec.model.engine]
    if folder is not None:
        parts.append(f"weights {show_bytes(weight_bytes(spec.model.engine_args, folder))}")
    context = context_tokens(spec, folder) if folder is not None else None
    asked = context or spec.model.engine_args.get("max_model_len")
    return ", ".join([*parts, f"context {asked} tokens" if asked else "the model's own context"])


def _hardware(spec: ServiceSpec) -> str:
    hardware = spec.hardware
    if hardware.is_cpu:
        cache = format_bytes(hardware.kv_cache or 0)
        cores = "core" if hardware.cpus_per_replica == 1 else "cores"
        return f"cpu, {hardware.cpus_per_replica:g} {cores} per worker, KV cache {cache}"
    tensor, pipeline = spec.model.tensor_parallel_size, spec.model.pipeline_parallel_size
    return f"{tensor * pipeline} x {hardware.accelerator} (tensor {tensor} x pipeline {pipeline})"


def _memory(spec: ServiceSpec, folder: ModelFolder | None) -> str:
    if spec.model.is_emulated:
        return "none for weights and KV cache: no model is run"
    unknown = why_unknown(spec, folder)
    if unknown is not None or folder is None:
        return f"not checked: {unknown}"
    return fit(spec, folder).arithmetic


def _admission(spec: ServiceSpec) -> str:
    classes = [
        f"{name}: weight {one.weight:g}, first token within "
        f"{format_seconds(spec.ttft_budget(name))}, given up after "
        f"{format_seconds(spec.deadline(name))}"
        for name, one in spec.admission.classes.items()
    ]
    return "; ".join([*classes, f"{spec.admission.margin:.0%} of each budget kept as margin"])


def tenants_line(spec: ServiceSpec) -> str:
    """Who may use the service, or that it is open.

    Raises:
        SpecError: the tenants file cannot be read, or says something impossible.
    """
    if spec.tenants is None:
        return "open: no key is asked for, anyone who reaches the server may use it"
    known = Tenants(load_tenants(spec.tenants))
    count, keys = len(known.all), known.keys
    cache = "one for all" if spec.cache_isolation == "shared" else "apart for each tenant or group"
    return (
        f"{count} {'tenant' if count == 1 else 'tenants'} with {keys} "
        f"{'key' if keys == 1 else 'keys'}, from {spec.tenants}; prefix cache {cache}"
    )


def _scaling(spec: ServiceSpec) -> str:
    low, high = spec.scaling.min, spec.scaling.max
    if low == high:
        return "1 replica" if low == 1 else f"{low} replicas"
    floors = [_floor(floor) for floor in spec.scaling.schedule]
    return "; ".join([f"{low} to {high} replicas", *floors])


def _floor(floor: FloorSpec) -> str:
    if floor.duration is not None:
        return f"{floor.min} for {format_seconds(floor.duration)} at {floor.cron} {floor.zone}"
    return f"{floor.min} from {floor.start:%Y-%m-%d %H:%M%z} until {floor.until:%Y-%m-%d %H:%M%z}"


def _placement(bundles: list[dict[str, float]]) -> str:
    resources = " + ".join(f"{amount:g} {name}" for name, amount in bundles[0].items())
    return f"{len(bundles)} x ({resources}) per replica"
