"""Which number format a model computes in where the service file leaves that to the machine."""

from __future__ import annotations

from forebay.spec.service import ServiceSpec

AUTO = "auto"  # vLLM's own default: as the model's config.json says


def engine_dtype(spec: ServiceSpec) -> str:
    """`model.engine_args.dtype`, with `auto` decided for CPUs.

    Models are mostly stored as bfloat16. A CPU without instructions for it (before AVX-512)
    computes it many times more slowly than float32: 9 times in a matrix product on an AVX2
    machine. vLLM takes the model's word all the same.
    """
    asked = str(spec.model.engine_args.get("dtype", AUTO))
    if asked == AUTO and spec.hardware.is_cpu and not bfloat16_is_fast():
        return "float32"
    return asked


def bfloat16_is_fast() -> bool:
    """Whether PyTorch's kernels for this CPU take bfloat16 as it is."""
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
