"""The resources that Ray must find for one replica: a bundle for each of its workers."""

from forebay.spec.service import ServiceSpec

# Ray gives every node that has such an accelerator one unit of this resource; a sliver of it
# pins the bundle to that kind of node without using it up.
_SLIVER = 0.001


def placement_bundles(spec: ServiceSpec) -> list[dict[str, float]]:
    """One bundle of Ray resources for each of a replica's tp x pp workers."""
    workers = spec.model.tensor_parallel_size * spec.model.pipeline_parallel_size
    return [_bundle(spec) for _ in range(workers)]


def _bundle(spec: ServiceSpec) -> dict[str, float]:
    if spec.hardware.is_cpu:
        return {"CPU": spec.hardware.cpus_per_replica}
    return {"GPU": 1.0, f"accelerator_type:{spec.hardware.accelerator}": _SLIVER}
