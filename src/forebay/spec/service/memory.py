"""How much memory a model asks of each worker: its weights, and the KV cache of one request.

All of it is arithmetic over what `model_folder.py` read. Where the truth depends on the engine
the lower figure is taken, so that `memory_fit.py` refuses nothing that would have started.
"""

from dataclasses import dataclass
from typing import Any

from forebay.spec.files import GIB
from forebay.spec.service.model_folder import ModelFolder, ModelShape
from forebay.spec.service.service_spec import ServiceSpec

_CPU_BLOCK_TOKENS = 128  # vllm/platforms/cpu.py, where block_size is not given
_GPU_BLOCK_TOKENS = 16  # vllm/config/cache.py, CacheConfig.DEFAULT_BLOCK_SIZE
_BATCHED_TOKENS = 2048  # vllm/config/scheduler.py, the least default of max_num_batched_tokens

# Weights that vLLM quantizes while it loads them: bytes per element of their large layers.
_ONLINE_QUANTIZATION = {"fp8": 1.0, "experts_int8": 1.0, "bitsandbytes": 0.5}
_LEAST_KV_BYTES = 0.375  # three bits per element, the smallest of vLLM 0.29's KV formats


@dataclass(frozen=True)
class MemoryDemand:
    """What one worker (one of tp x pp) must hold; sizes in bytes."""

    weights: float
    kv_per_token: float  # of the layers that keep every token
    kv_windows: float  # of the layers that keep a window of tokens: a fixed amount
    context_tokens: int
    block_tokens: int

    @property
    def kv_bytes(self) -> float:
        """KV cache of one full-length request, and the one block that vLLM keeps empty."""
        blocks = -(-self.context_tokens // self.block_tokens) + 1
        return blocks * self.block_tokens * self.kv_per_token + self.kv_windows

    def tokens_within(self, kv_bytes: float) -> int:
        """The longest request, in whole blocks of tokens, whose KV cache fits in `kv_bytes`."""
        if self.kv_per_token == 0:
            return self.context_tokens if kv_bytes >= self.kv_windows else 0
        blocks = (kv_bytes - self.kv_windows) // (self.block_tokens * self.kv_per_token) - 1
        return max(0, int(blocks)) * self.block_tokens


def context_tokens(spec: ServiceSpec, folder: ModelFolder) -> int | None:
    """Longest prompt + answer of a request; None where only the engine can tell."""
    asked, own = spec.model.engine_args.get("max_model_len"), folder.context_tokens
    if asked in (None, -1):
        return folder.default_context_tokens
    overridden = "hf_overrides" in spec.model.engine_args
    return int(asked) if own is None or overridden else min(int(asked), own)


def demand(
    spec: ServiceSpec,
    folder: ModelFolder,
    shape: ModelShape,
    context: int,
    workers: tuple[int, int],
) -> MemoryDemand:
    """What each worker must hold when the model is split over `workers` = (tp, pp)."""
    args, (tensor, pipeline) = spec.model.engine_args, workers
    stage = -(-shape.layers // pipeline) / shape.layers  # share of the layers in the largest stage
    element = _kv_bytes_per_element(args)
    per_layer = element * (shape.latent_dim or 2 * _kv_heads(shape, tensor) * shape.head_dim)
    window = shape.window_tokens + int(args.get("max_num_batched_tokens") or _BATCHED_TOKENS)
    offloaded = float(args.get("cpu_offload_gb", 0)) * GIB
    return MemoryDemand(
        weights=max(0.0, weight_bytes(args, folder) / (tensor * pipeline) - offloaded),
        kv_per_token=per_layer * shape.full_layers * stage / _context_parallel(args),
        kv_windows=per_layer * shape.sliding_layers * stage * min(window, context),
        context_tokens=context,
        block_tokens=_block_tokens(spec),
    )


def weight_bytes(args: dict[str, Any], folder: ModelFolder) -> float:
    """All weights as the engine holds them: floating point in its dtype, the rest as stored."""
    width = _dtype_bytes(args)
    if not folder.quantized:
        width = min(width, _ONLINE_QUANTIZATION.get(str(args.get("quantization")), width))
    return folder.float_elements * width + folder.other_bytes


def _dtype_bytes(args: dict[str, Any]) -> float:
    """`auto` turns float32 weights into a 16-bit form too."""
    return 4.0 if args.get("dtype") in ("float32", "float") else 2.0


def _kv_bytes_per_element(args: dict[str, Any]) -> float:
    kind = args.get("kv_cache_dtype", "auto")
    if kind == "auto":
        return _dtype_bytes(args)
    if kind in ("float16", "bfloat16"):
        return 2.0
    return 1.0 if kind.startswith(("fp8", "int8")) else _LEAST_KV_BYTES


def _kv_heads(shape: ModelShape, tensor: int) -> float:
    """KV heads in one worker; with more workers than heads, each head is held more than once."""
    return max(1.0, shape.kv_heads / tensor)


def _context_parallel(args: dict[str, Any]) -> int:
    return int(args.get("decode_context_parallel_size", 1))


def _block_tokens(spec: ServiceSpec) -> int:
    default = _CPU_BLOCK_TOKENS if spec.hardware.is_cpu else _GPU_BLOCK_TOKENS
    return int(spec.model.engine_args.get("block_size") or default)
