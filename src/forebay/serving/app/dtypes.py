"""Which number format a model computes in where the service file leaves that to the machine."""

from __future__ import annotations

import time

from forebay.spec.service import ServiceSpec

AUTO = "auto"  # vLLM's own default: as the model's config.json says

_ROWS, _WIDTH = 64, 512  # a batch of answers in one layer of a model: some 1 ms
_ABOUT = 1.2  # what is hardly slower has half the KV cache for it
_TIMES = 5  # the fastest counts: others are somebody else's doing


def engine_dtype(spec: ServiceSpec) -> str:
    """`model.engine_args.dtype`, with `auto` decided for CPUs.

    Models are mostly stored as bfloat16. A CPU may compute it more slowly than float32: without
    instructions for it (before AVX-512) 9 times in a matrix product, with those of AVX-512 but
    not AMX 1.7 times, whatever its flags promise. vLLM takes the model's word all the same.
    """
    asked = str(spec.model.engine_args.get("dtype", AUTO))
    if asked == AUTO and spec.hardware.is_cpu and not bfloat16_is_fast():
        return "float32"
    return asked


def bfloat16_is_fast() -> bool:
    """Whether this CPU multiplies matrices in bfloat16 about as fast as in float32, as timed."""
    return _product_s("bfloat16") <= _ABOUT * _product_s("float32")


def _product_s(dtype: str) -> float:
    """Seconds of a layer's product on one core, the fastest of a few."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = torch.ones(_ROWS, _WIDTH, dtype=getattr(torch, dtype))
        layer = torch.nn.Linear(_WIDTH, _WIDTH, bias=False, dtype=rows.dtype)
        with torch.inference_mode():
            return min(_seconds(layer, rows) for _ in range(_TIMES))
    finally:
        torch.set_num_threads(threads)


def _seconds(layer: object, rows: object) -> float:
    assert callable(layer)
    began = time.perf_counter()
    layer(rows)
    return time.perf_counter() - began
