"""The resources that Ray must find for one replica: a bundle for each of its workers."""

from forebay.spec.service.service_spec import ServiceSpec

# Ray gives every node that has such an accelerator one unit of this resource; a sliver of it
# pins the bundle to that kind of node without using it up.
_SLIVER = 0.001
_EMULATED_CPUS = 0.01  # a replica waits for its steps to pass


def placement_bundles(spec: ServiceSpec) -> list[dict[str, float]]:
    """One bundle of Ray resources for each of a replica's tp x pp workers."""
    if spec.model.is_emulated:
        return [{"CPU": emulated_cpus(spec)}]
    workers = spec.model.tensor_parallel_size * spec.model.pipeline_parallel_size
    return [_bundle(spec) for _ in range(workers)]


def emulated_cpus(spec: ServiceSpec) -> float:
    """Cores that Ray sets aside for an emulated replica: next to none, or what the file says.

    With the cores of a whole node, a replica asks for a node as one with a GPU does.
    """
    hardware = spec.hardware
    is_written = "cpus_per_replica" in hardware.model_fields_set
    return hardware.cpus_per_replica if is_written else _EMULATED_CPUS


def _bundle(spec: ServiceSpec) -> dict[str, float]:
    if spec.hardware.is_cpu:
        return {"CPU": spec.hardware.cpus_per_replica}
    return {"GPU": 1.0, f"accelerator_type:{rays_name(spec)}": _SLIVER}


def rays_name(spec: ServiceSpec) -> str:
    """The accelerator as Ray's nodes say that they have it: both sizes of an A100 alike."""
    name = spec.hardware.accelerator
    return "A100" if name.startswith("A100-") else name
