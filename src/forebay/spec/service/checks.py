"""What can only be judged over several fields at once, or by looking at the model's folder."""

from collections.abc import Callable, Iterator

from forebay.spec.files import Fault, SpecError, format_seconds
from forebay.spec.service.memory_fit import fit, why_unknown
from forebay.spec.service.model_folder import ModelFolder, ModelFolderError, read_model_folder
from forebay.spec.service.service_spec import ServiceSpec
from forebay.spec.tenants import load_tenants

Loc = tuple[str, ...]

_SOURCE = ("model", "source")
_ARGS = ("model", "engine_args")
_HARDWARE = ("hardware",)


def local_model(spec: ServiceSpec) -> ModelFolder | None:
    """The model's folder as read; None when it is not on this machine.

    Raises:
        ModelFolderError: the folder is missing, or is not a model.
    """
    path = spec.model.source_path
    return None if path is None else read_model_folder(path)


def check_service(spec: ServiceSpec, doubtful: frozenset[Loc] = frozenset()) -> list[Fault]:
    """Every fault of the service as a whole; nothing is judged by a field that is `doubtful`."""
    try:
        folder = None if _SOURCE in doubtful else local_model(spec)
    except ModelFolderError as error:
        hint = "write demo, a folder with config.json and *.safetensors, or a Hugging Face id"
        return [Fault(_SOURCE, str(error), hint), *_run(spec, None, doubtful)]
    return _run(spec, folder, doubtful)


def _run(spec: ServiceSpec, folder: ModelFolder | None, doubtful: frozenset[Loc]) -> list[Fault]:
    trusted = [check for check, reads in _CHECKS if not _touches(reads, doubtful)]
    return [fault for check in trusted for fault in check(spec, folder)]


def _touches(reads: tuple[Loc, ...], doubtful: frozenset[Loc]) -> bool:
    """Whether a doubtful field lies inside what a check reads, or around it."""
    pairs = ((one, other) for one in reads for other in doubtful)
    return any(one[: len(other)] == other[: len(one)] for one, other in pairs)


def _block_size(spec: ServiceSpec, folder: ModelFolder | None) -> Iterator[Fault]:
    size = spec.model.engine_args.get("block_size")
    is_mla = folder is not None and folder.shape is not None and folder.shape.is_mla
    if not spec.hardware.is_cpu or size is None or size % 32 == 0 or is_mla:
        return
    message = f"{size} does not work on cpu, where vLLM's kernels need a multiple of 32"
    yield Fault((*_ARGS, "block_size"), message, f"write {max(32, round(size / 32) * 32)}")


def _cpu_kv_cache(spec: ServiceSpec, folder: ModelFolder | None) -> Iterator[Fault]:
    if spec.hardware.is_cpu and "kv_cache_memory_bytes" in spec.model.engine_args:
        message = "on cpu Forebay sets it from hardware.kv_cache"
        yield Fault((*_ARGS, "kv_cache_memory_bytes"), message, "set hardware.kv_cache")


def _context(spec: ServiceSpec, folder: ModelFolder | None) -> Iterator[Fault]:
    args = spec.model.engine_args
    asked, most = args.get("max_model_len"), folder.context_tokens if folder else None
    if asked is None or most is None or asked <= most or "hf_overrides" in args:
        return
    message = f"{asked} is beyond the model's context window of {most} tokens"
    yield Fault((*_ARGS, "max_model_len"), message, f"write at most {most}")


def _heads(spec: ServiceSpec, folder: ModelFolder | None) -> Iterator[Fault]:
    split, shape = spec.model.tensor_parallel_size, folder.shape if folder else None
    if shape is None or shape.attention_heads % split == 0:
        return
    heads = shape.attention_heads
    message = f"{split} does not divide the model's {heads} attention heads"
    divisors = ", ".join(str(n) for n in range(1, min(heads, 64) + 1) if heads % n == 0)
    yield Fault((*_ARGS, "tensor_parallel_size"), message, f"write one of {divisors}")


def _memory(spec: ServiceSpec, folder: ModelFolder | None) -> Iterator[Fault]:
    if folder is None or why_unknown(spec, folder) is not None:
        return
    outcome = fit(spec, folder)
    if not outcome.fits:
        key = "kv_cache" if spec.hardware.is_cpu else "accelerator"
        yield Fault(("hardware", key), outcome.arithmetic, outcome.advice)


def _tenants(spec: ServiceSpec, _: ModelFolder | None) -> Iterator[Fault]:
    """The faults of the tenants file, each with its own file and line."""
    if spec.tenants is None:
        return
    try:
        load_tenants(spec.tenants)
    except SpecError as error:
        for problem in error.problems:
            yield Fault(("tenants",), str(problem))


def _isolation(spec: ServiceSpec, _: ModelFolder | None) -> Iterator[Fault]:
    if spec.tenants is None and spec.admission.cache_isolation == "tenant":
        message = "tenant needs tenants, and this service is open"
        yield Fault(("admission", "cache_isolation"), message, "write tenants: tenants.yaml")


def _promise(spec: ServiceSpec, _: ModelFolder | None) -> Iterator[Fault]:
    """An interactive budget beyond the SLO: the gate would admit what breaks the promise."""
    own, promised = spec.admission.classes["interactive"].ttft, spec.slo.ttft_p99
    if own is not None and own > promised:
        said, most = format_seconds(own), format_seconds(promised)
        message = f"{said} is above slo.ttft_p99, {most}, which is what users are promised"
        loc = ("admission", "classes", "interactive", "ttft")
        yield Fault(loc, message, f"write at most {most}, or slo.ttft_p99: {said}")


def _deadline(spec: ServiceSpec, _: ModelFolder | None) -> Iterator[Fault]:
    """A deadline before a class's budget: what was admitted in time for it would be aborted."""
    deadline = spec.admission.deadline
    if deadline is None:
        return
    name, budget = max(_budgets(spec), key=lambda one: one[1])
    if deadline < budget:
        said, least = format_seconds(deadline), format_seconds(budget)
        message = f"{said} is before the end of the TTFT budget of {name}, {least}"
        hint = f"write at least {least}, or a shorter admission.classes.{name}.ttft"
        yield Fault(("admission", "deadline"), message, hint)


def _budgets(spec: ServiceSpec) -> list[tuple[str, float]]:
    """Each class with its TTFT budget in seconds as written: not slowed."""
    return [
        (name, spec.slo.ttft_p99 if one.ttft is None else one.ttft)
        for name, one in spec.admission.classes.items()
    ]


def _floors(spec: ServiceSpec, _: ModelFolder | None) -> Iterator[Fault]:
    """A floor that `max` cuts off: the launch would find fewer replicas than its file says."""
    most = spec.scaling.max
    for place, floor in enumerate(spec.scaling.schedule):
        if floor.min > most:
            message = f"{floor.min} is above scaling.max, {most}"
            hint = f"write at most {most}, or scaling.max: {floor.min}"
            yield Fault(("scaling", "schedule", str(place), "min"), message, hint)


_Check = Callable[[ServiceSpec, ModelFolder | None], Iterator[Fault]]

# Each check with the fields that it reads.
_CHECKS: tuple[tuple[_Check, tuple[Loc, ...]], ...] = (
    (_block_size, (("hardware", "accelerator"), (*_ARGS, "block_size"), _SOURCE)),
    (_cpu_kv_cache, (("hardware", "accelerator"), (*_ARGS, "kv_cache_memory_bytes"))),
    (_context, (_SOURCE, (*_ARGS, "max_model_len"), (*_ARGS, "hf_overrides"))),
    (_heads, (_SOURCE, (*_ARGS, "tensor_parallel_size"))),
    (_memory, (_SOURCE, _ARGS, _HARDWARE)),
    (_tenants, (("tenants",),)),
    (_isolation, (("tenants",), ("admission", "cache_isolation"))),
    (_promise, (("slo", "ttft_p99"), ("admission", "classes"))),
    (_deadline, (("slo", "ttft_p99"), ("admission", "classes"), ("admission", "deadline"))),
    (_floors, (("scaling", "max"), ("scaling", "schedule"))),
)
