"""Step times and KV blocks of a dense transformer, derived from data sheets.

A step reads all weights once, computes two floating-point operations per weight and token, reads
the KV cache of what it attends to, and with tensor parallelism adds up partial results over the
links twice a layer. The parts are added rather than overlapped, so that the law stays linear; in
steps that keep memory and arithmetic equally busy it errs on the slow side. What the hardware
reaches of its data sheet is an assumption (`Efficiency`), to be replaced by a fit to measured steps
(`fitting.fit_step_time`) as soon as there are any.
"""

from __future__ import annotations

from dataclasses import dataclass

from forebay.engine_model.step_time import StepTime

GB = 1e9
_FLOPS_PER_WEIGHT = 2.0  # a multiplication and an addition


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A Llama-like model: grouped-query attention, gated MLP, its own output embedding."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    bytes_per_weight: float = 2.0
    bytes_per_kv: float = 2.0

    @property
    def layer_weights(self) -> int:
        """Weights in all layers, the norms of 2 per layer included."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp + 2 * self.hidden)

    @property
    def weights(self) -> int:
        """All weights: layers, input and output embedding, the last norm."""
        return self.layer_weights + 2 * self.vocabulary * self.hidden + self.hidden

    @property
    def read_weights(self) -> int:
        """Weights that a step reads: of the input embedding only a few rows."""
        return self.weights - self.vocabulary * self.hidden

    @property
    def kv_bytes_per_token(self) -> float:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * self.bytes_per_kv


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator, per its data sheet.

    Attributes:
        memory: bytes that the driver reports.
        bandwidth: of the memory, bytes/s.
        flops: dense, at the model's precision, 1/s.
        link: bandwidth to the other accelerators of the node, bytes/s in one direction.
    """

    memory: float
    bandwidth: float
    flops: float
    link: float


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Assumptions: what is reached of the data sheet, and what it does not know.

    Attributes:
        memory: share of the memory's and the links' bandwidth.
        compute: share of the arithmetic of large matrix products.
        attention: the same of attention over long contexts.
        step_s: per step, seconds: scheduling, launches, sampling.
        sequence_s: per decoding sequence, seconds: sampling and bookkeeping.
        reduce_s: latency of one addition over the links, seconds.
    """

    memory: float = 0.8
    compute: float = 0.6
    attention: float = 0.4
    step_s: float = 1e-3
    sequence_s: float = 1e-5
    reduce_s: float = 1e-5


def roofline(
    shape: ModelShape, hardware: Hardware, efficiency: Efficiency, workers: int = 1
) -> StepTime:
    """The law of a model split over `workers` accelerators by tensor parallelism."""
    bandwidth = workers * hardware.bandwidth * efficiency.memory
    flops = workers * hardware.flops * efficiency.compute
    reduces = 2 * shape.layers if workers > 1 else 0
    # A ring reduction passes each byte (n - 1) / n times in each of its two phases.
    passed = reduces * shape.hidden * shape.bytes_per_weight * 2 * (workers - 1) / workers
    token = (
        _FLOPS_PER_WEIGHT * shape.layer_weights / flops
        + passed / (hardware.link * efficiency.memory)
    )  # fmt: skip
    sampled = _FLOPS_PER_WEIGHT * shape.vocabulary * shape.hidden / flops
    pair_flops = 2 * _FLOPS_PER_WEIGHT * shape.layers * shape.heads * shape.head_dim
    return StepTime(
        base=efficiency.step_s
        + shape.read_weights * shape.bytes_per_weight / bandwidth
        + reduces * efficiency.reduce_s,
        prefill_token=token,
        decode_sequence=token + sampled + efficiency.sequence_s,
        context_token=shape.kv_bytes_per_token / bandwidth,
        prefill_pair=pair_flops / (workers * hardware.flops * efficiency.attention),
    )


def kv_blocks(
    shape: ModelShape,
    hardware: Hardware,
    workers: int,
    block_size: int,
    utilization: float,
    reserve: float,
) -> int:
    """KV blocks in the memory left beside the weights.

    Args:
        shape: of the model.
        hardware: each worker's.
        workers: over which weights and KV are split evenly.
        block_size: tokens in a block.
        utilization: vLLM's `gpu_memory_utilization`, 0 to 1.
        reserve: bytes per worker for activations, CUDA graphs and the runtime.

    Raises:
        ValueError: nothing is left.
    """
    usable = workers * (hardware.memory * utilization - reserve)
    left = usable - shape.weights * shape.bytes_per_weight
    blocks = int(left // (block_size * shape.kv_bytes_per_token))
    if blocks < 2:
        raise ValueError(f"{workers} workers leave {left / GB:.1f} GB for the KV cache")
    return blocks
