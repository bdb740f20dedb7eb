"""Whether a model fits where it shall run, said with the whole sum and with what to change.

vLLM makes the same comparison when its engine starts, minutes later and on a machine that costs
money. The overhead taken here is the least to expect, so that nothing is refused that would have
started; what passes here may still be refused there, by a little.
"""

from dataclasses import dataclass, replace

from forebay.spec.files import GIB, format_bytes, show_bytes
from forebay.spec.service.accelerators import MEMORY_BYTES, WITHOUT_FP8
from forebay.spec.service.memory import MemoryDemand, context_tokens, demand
from forebay.spec.service.model_folder import ModelFolder, ModelShape
from forebay.spec.service.service_spec import ServiceSpec

# CUDA context, graphs and the activations of one step. vLLM measures the true figure at start.
OVERHEAD_BYTES = GIB

_GPU_MEMORY_UTILIZATION = 0.92  # vllm/config/cache.py, CacheConfig of 0.29
_MOST_TENSOR_PARALLEL = 16


@dataclass(frozen=True)
class Fit:
    """The outcome: does it fit, the sum as a person would write it, and a way out."""

    fits: bool
    arithmetic: str
    advice: str = ""


@dataclass(frozen=True)
class _Room:
    """Memory of one worker, in bytes: what there is for the KV cache, and the sum behind it."""

    kv_bytes: float
    words: str
    overdrawn: bool = False  # more was set aside for the KV cache than is left beside the weights

    def holds(self, need: MemoryDemand) -> bool:
        return not self.overdrawn and need.kv_bytes <= self.kv_bytes


def why_unknown(spec: ServiceSpec, folder: ModelFolder | None) -> str | None:
    """Why nothing can be said before the engine starts; None when `fit` can be asked."""
    if folder is None:
        hint = "write ./ before it if a folder was meant"
        return f"the size of {spec.model.source} is known once vLLM has fetched it ({hint})"
    if folder.shape is None:
        return "config.json does not give layers and heads under the usual names"
    if context_tokens(spec, folder) is None:
        return "config.json does not give the context window; set engine_args.max_model_len"
    if not spec.hardware.is_cpu and accelerator_bytes(spec) is None:
        name = spec.hardware.accelerator
        return f"the memory of {name} is not known here; set hardware.accelerator_memory"
    return None


def accelerator_bytes(spec: ServiceSpec) -> int | None:
    """Memory of one accelerator in bytes; None when nobody said."""
    own = spec.hardware.accelerator_memory
    return MEMORY_BYTES.get(spec.hardware.accelerator) if own is None else own


def fit(spec: ServiceSpec, folder: ModelFolder) -> Fit:
    """Whether weights and the KV cache of one full-length request fit each worker.

    Raises:
        ValueError: `why_unknown` has an answer.
    """
    context = context_tokens(spec, folder)
    if folder.shape is None or context is None or why_unknown(spec, folder):
        raise ValueError(why_unknown(spec, folder))
    workers = (spec.model.tensor_parallel_size, spec.model.pipeline_parallel_size)
    need = demand(spec, folder, folder.shape, context, workers)
    room = _room(spec, need)
    fits = room.holds(need)
    words = (
        f"the KV cache of one request of {context} tokens takes {show_bytes(need.kv_bytes)} and "
        f"{'fits' if fits else 'does not fit'} in {room.words}"
    )
    return Fit(fits, words, "" if fits else _advice(spec, folder, folder.shape, need, room))


def _room(spec: ServiceSpec, need: MemoryDemand) -> _Room:
    if spec.hardware.is_cpu:
        size = spec.hardware.kv_cache or GIB
        return _Room(size, f"hardware.kv_cache {format_bytes(size)}")
    total = accelerator_bytes(spec) or 0
    args = spec.model.engine_args
    share = float(args.get("gpu_memory_utilization", _GPU_MEMORY_UTILIZATION))
    left = total * share - need.weights - OVERHEAD_BYTES
    words = (
        f"{show_bytes(left)} = {spec.hardware.accelerator} {show_bytes(total)} x "
        f"gpu_memory_utilization {share:g} - weights {show_bytes(need.weights)} - overhead "
        f"{show_bytes(OVERHEAD_BYTES)}{_per_worker(spec)}"
    )
    stated = args.get("kv_cache_memory_bytes")
    if stated is None:
        return _Room(left, words)
    left = total - need.weights - OVERHEAD_BYTES
    words = f"kv_cache_memory_bytes {show_bytes(stated)}"
    if stated <= left:
        return _Room(stated, words)
    return _Room(left, f"{words}, of which only {show_bytes(left)} are there", overdrawn=True)


def _per_worker(spec: ServiceSpec) -> str:
    tensor, pipeline = spec.model.tensor_parallel_size, spec.model.pipeline_parallel_size
    return f", in each of {tensor} x {pipeline} workers" if tensor * pipeline > 1 else ""


def _advice(
    spec: ServiceSpec, folder: ModelFolder, shape: ModelShape, need: MemoryDemand, room: _Room
) -> str:
    """Every single change that would make it fit."""
    ways = []
    shorter = need.tokens_within(room.kv_bytes)
    if room.overdrawn and room.kv_bytes >= need.kv_bytes:
        ways.append(f"kv_cache_memory_bytes: {int(room.kv_bytes)}")
    elif shorter > 0 and not room.overdrawn:
        ways.append(f"max_model_len: {shorter}")
    if spec.hardware.is_cpu:
        gib = -(-int(need.kv_bytes) // GIB)
        ways.append(f"hardware.kv_cache: {gib}GiB")
    else:
        ways += _accelerator_ways(spec, folder, shape, need)
    return (
        f"what would fit: {', or '.join(ways)}" if ways else "take an accelerator with more memory"
    )


def _accelerator_ways(
    spec: ServiceSpec, folder: ModelFolder, shape: ModelShape, need: MemoryDemand
) -> list[str]:
    ways = []
    tensor, pipeline = spec.model.tensor_parallel_size, spec.model.pipeline_parallel_size
    for split in range(tensor + 1, _MOST_TENSOR_PARALLEL + 1):
        if shape.attention_heads % split:
            continue
        wider = demand(spec, folder, shape, need.context_tokens, (split, pipeline))
        if _room(spec, wider).holds(wider):
            ways.append(f"tensor_parallel_size: {split}")
            break
    if _can_quantize(spec, folder):
        halved = replace(need, weights=need.weights / 2)
        if _room(spec, halved).holds(halved):
            ways.append("quantization: fp8")
    return ways


def _can_quantize(spec: ServiceSpec, folder: ModelFolder) -> bool:
    return (
        not folder.quantized
        and folder.float_elements > 0
        and "quantization" not in spec.model.engine_args
        and spec.hardware.accelerator not in WITHOUT_FP8
    )
