"""The profiles that come with Forebay, by name.

`demo-cpu` is the bundled model on a CPU. The others are rooflines: hardware from NVIDIA's H100 data
sheet (SXM: 3.35 TB/s, 989 TFLOPS dense bf16, NVLink 900 GB/s both directions together), memory as
NVML reports it (81,559 MiB: thundergolfer.com/blog/nvidia-gpu-memory-capacity), the L4's (300 GB/s,
242 TFLOPS dense FP8, PCIe 4.0, 23,034 MiB), shapes from the
models' config.json, vLLM 0.29's own defaults for an H100 that serves HTTP
(vllm/engine/arg_utils.py, vllm/config/cache.py). `Efficiency` says what was assumed.

Compared with a measurement: Lambda's github.com/LambdaLabsML/vllm-benchmark (vLLM 0.6, September
2024), results/prompt_10/1xH100-80GB-SXM/Meta-Llama-3-8B-Instruct_tp1_len2048.json. Llama 3 8B has
the shape of 3.1 8B. Its engine took ten steps at a time; six sequences decoding together got ten
tokens each per 73.9 ms, four per 72.3, two per 71.7, the last one by itself per 70.5: 7.39, 7.23,
7.17 and 7.05 ms a step. `h100-8b` says 6.9 to 6.7 ms, 5 to 7 % less; a test holds it to 10 %.
No such measurement was found for
the others: take them for estimates. (`h100-32b`: llm-d's autoscaling guide settles at 1.4 to 1.5
requests/s of 4,000 / 1,000 tokens on such a replica, guides/workload-autoscaling/slo-aware.)
"""

from __future__ import annotations

from dataclasses import replace

from forebay.engine_model.profile import EngineProfile
from forebay.engine_model.roofline import (
    GB,
    Efficiency,
    Hardware,
    ModelShape,
    kv_blocks,
    roofline,
)
from forebay.engine_model.step_time import StepTime

H100 = Hardware(memory=81_559 * 2**20, bandwidth=3.35e12, flops=989e12, link=450e9)
L4 = Hardware(memory=23_034 * 2**20, bandwidth=300e9, flops=242e12, link=32e9)  # FP8
LLAMA_8B = ModelShape(
    layers=32, hidden=4096, heads=32, kv_heads=8, head_dim=128, mlp=14_336, vocabulary=128_256
)
LLAMA_70B = ModelShape(
    layers=80, hidden=8192, heads=64, kv_heads=8, head_dim=128, mlp=28_672, vocabulary=128_256
)
QWEN_32B = ModelShape(
    layers=64, hidden=5120, heads=64, kv_heads=8, head_dim=128, mlp=25_600, vocabulary=151_936
)

_UTILIZATION = 0.92  # vllm/config/cache.py, the default of gpu_memory_utilization
_RESERVE = 4 * GB  # assumed: activations of 8,192 tokens, CUDA graphs, the CUDA context
_READ = 2 * GB  # assumed: bytes/s of weights from local disk to each node's accelerators
_WARM_UP_S = 45.0  # assumed: process start, compilation from its cache, CUDA graphs
_CHARACTERS_PER_TOKEN = 3.94  # English under Llama 3's tokenizer: "The Llama 3 Herd of Models", 3.2


def _h100(name: str, model: str, shape: ModelShape, workers: int) -> EngineProfile:
    return EngineProfile(
        name=name,
        source=(
            f"Derived, not measured: {model} in bf16 on {workers} x H100 SXM by roofline from data "
            "sheets, with assumed efficiencies; see forebay/engine_model/profiles.py."
        ),
        step_time=roofline(shape, H100, Efficiency(), workers),
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        max_model_len=32_768,
        block_size=16,
        kv_blocks=kv_blocks(shape, H100, workers, 16, _UTILIZATION, _RESERVE),
        kv_bytes_per_token=shape.kv_bytes_per_token,
        text_bytes_per_token=_CHARACTERS_PER_TOKEN,
        load_s=shape.weights * shape.bytes_per_weight / _READ + _WARM_UP_S,
    )


def _l4() -> EngineProfile:
    """FP8 weights, as this card is served; a step of 2,048 tokens, vLLM's default below an H100."""
    shape = replace(LLAMA_8B, bytes_per_weight=1.0)
    return replace(
        _h100("l4-8b", "", shape, workers=1),
        source=(
            "Derived, not measured: Llama 3.1 8B in FP8 on one L4 by roofline from data sheets, "
            "with assumed efficiencies; see forebay/engine_model/profiles.py."
        ),
        step_time=roofline(shape, L4, Efficiency()),
        max_num_seqs=64,
        max_num_batched_tokens=2048,
        max_model_len=16_384,
        kv_blocks=kv_blocks(shape, L4, 1, 16, _UTILIZATION, _RESERVE / 2),
    )


def _demo_cpu() -> EngineProfile:
    """The demo model: 5 layers, 2 KV heads of 64, bf16; 1 GiB of KV as in examples/demo.yaml."""
    kv_bytes_per_token = 2 * 5 * 2 * 64 * 2
    return EngineProfile(
        name="demo-cpu",
        source=(
            "Provisional: round figures for the bundled 5 M-parameter model on one CPU core, to be "
            "replaced by a fit to measured steps."
        ),
        step_time=StepTime(base=2.5e-3, prefill_token=25e-6, decode_sequence=0.1e-3),
        max_num_seqs=64,
        max_num_batched_tokens=2048,
        max_model_len=2048,
        block_size=32,
        kv_blocks=2**30 // (32 * kv_bytes_per_token),
        kv_bytes_per_token=kv_bytes_per_token,
        text_bytes_per_token=2.7,  # prose of Forebay's own decision records
        load_s=18.0,  # measured on two cores: from the engine's start until it is ready
    )


PROFILES: dict[str, EngineProfile] = {
    profile.name: profile
    for profile in (
        _demo_cpu(),
        _h100("h100-8b", "Llama 3.1 8B", LLAMA_8B, workers=1),
        _h100("h100-70b", "Llama 3.1 70B", LLAMA_70B, workers=4),
        _h100("h100-32b", "Qwen3 32B", QWEN_32B, workers=2),
        _l4(),
    )
}


def named_profile(name: str) -> EngineProfile:
    """The profile of this name.

    Raises:
        ValueError: there is none; the message names those that there are.
    """
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}; there are {', '.join(PROFILES)}")
    return PROFILES[name]
