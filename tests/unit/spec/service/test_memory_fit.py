from pathlib import Path
from typing import Any

import pytest
from model_folders import GIB, LLAMA_70B, LLAMA_70B_ELEMENTS, make_model

from forebay.spec.service import ServiceSpec, demand, read_model_folder
from forebay.spec.service.checks import check_service, local_model
from forebay.spec.service.memory import context_tokens
from forebay.spec.service.memory_fit import OVERHEAD_BYTES, fit, why_unknown
from forebay.spec.service.service_spec import HardwareSpec, ModelSpec


def service(source: Path | str, hardware: dict[str, Any] | None = None, **args: Any) -> ServiceSpec:
    return ServiceSpec(
        name="chat",
        model=ModelSpec(id="chat", source=str(source), engine_args=args),
        hardware=HardwareSpec.model_validate(hardware or {"accelerator": "H100"}),
    )


def test_the_arithmetic_of_a_70b_model_on_one_h100(tmp_path: Path) -> None:
    """By hand: 70.6e9 x 2 B = 131.4 GiB of weights; 327,680 B of KV cache a token."""
    spec = service(make_model(tmp_path), max_model_len=8192)
    folder = local_model(spec)
    assert folder is not None
    assert folder.shape is not None
    need = demand(spec, folder, folder.shape, 8192, (1, 1))
    assert need.weights == LLAMA_70B_ELEMENTS * 2
    assert need.kv_per_token == 2 * 80 * 8 * 128 * 2
    assert need.kv_bytes == need.kv_per_token * (8192 + 16)
    outcome = fit(spec, folder)
    assert not outcome.fits
    assert outcome.arithmetic == (
        "the KV cache of one request of 8192 tokens takes 2.505 GiB and does not fit in -59.14 GiB "
        "= H100 79.65 GiB x gpu_memory_utilization 0.92 - weights 131.4 GiB - overhead 1 GiB"
    )
    assert outcome.advice == "what would fit: tensor_parallel_size: 2, or quantization: fp8"


def test_what_the_advice_names_does_fit(tmp_path: Path) -> None:
    source = make_model(tmp_path)
    folder = read_model_folder(source)
    outcome = fit(service(source, tensor_parallel_size=2), folder)
    assert not outcome.fits
    length = int(outcome.advice.split("max_model_len: ")[1].split(",")[0])
    assert 32_000 < length < 131_072
    assert fit(service(source, tensor_parallel_size=2, max_model_len=length), folder).fits
    assert not fit(service(source, tensor_parallel_size=2, max_model_len=length + 16), folder).fits
    assert "tensor_parallel_size: 4" in outcome.advice
    assert fit(service(source, tensor_parallel_size=4), folder).fits


@pytest.mark.parametrize(
    ("args", "weights", "kv_per_token"),
    [
        ({}, 1.0, 1.0),
        ({"tensor_parallel_size": 4}, 1 / 4, 1 / 4),
        ({"tensor_parallel_size": 16}, 1 / 16, 1 / 8),  # 8 KV heads: each is held twice
        ({"pipeline_parallel_size": 2}, 1 / 2, 1 / 2),
        ({"pipeline_parallel_size": 3}, 1 / 3, 27 / 80),  # the largest of 27, 27 and 26 layers
        ({"kv_cache_dtype": "fp8"}, 1.0, 1 / 2),
        ({"dtype": "float32"}, 2.0, 2.0),
        ({"quantization": "fp8"}, 1 / 2, 1.0),
        ({"decode_context_parallel_size": 2}, 1.0, 1 / 2),
    ],
)
def test_each_argument_changes_the_demand_as_it_should(
    tmp_path: Path, args: dict[str, Any], weights: float, kv_per_token: float
) -> None:
    spec = service(make_model(tmp_path), **args)
    folder = local_model(spec)
    assert folder is not None
    assert folder.shape is not None
    split = (spec.model.tensor_parallel_size, spec.model.pipeline_parallel_size)
    need = demand(spec, folder, folder.shape, 8192, split)
    assert need.weights == pytest.approx(LLAMA_70B_ELEMENTS * 2 * weights)
    assert need.kv_per_token == pytest.approx(327_680 * kv_per_token)


def test_a_window_bounds_what_its_layers_keep(tmp_path: Path) -> None:
    config = {**LLAMA_70B, "sliding_window": 1024}
    spec = service(make_model(tmp_path, config), max_num_batched_tokens=1024)
    folder = local_model(spec)
    assert folder is not None
    assert folder.shape is not None
    need = demand(spec, folder, folder.shape, 131_072, (1, 1))
    assert (need.kv_per_token, need.kv_windows) == (0, 327_680 * 2048)


def test_latent_attention_keeps_one_vector_a_token(tmp_path: Path) -> None:
    config = {**LLAMA_70B, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    spec = service(make_model(tmp_path, config))
    folder = local_model(spec)
    assert folder is not None
    assert folder.shape is not None
    need = demand(spec, folder, folder.shape, 8192, (8, 1))
    assert need.kv_per_token == 80 * 576 * 2


def test_a_stated_kv_cache_replaces_the_share(tmp_path: Path) -> None:
    source = make_model(tmp_path, elements=GIB)
    folder = read_model_folder(source)
    stated: dict[str, Any] = {"max_model_len": 8192, "kv_cache_memory_bytes": 3 * GIB}
    assert fit(service(source, **stated), folder).fits
    assert not fit(service(source, **{**stated, "kv_cache_memory_bytes": 2 * GIB}), folder).fits
    too_much = fit(service(source, **{**stated, "kv_cache_memory_bytes": 79 * GIB}), folder)
    assert not too_much.fits
    assert "of which only 76.65 GiB are there" in too_much.arithmetic
    room = int(too_much.advice.split("kv_cache_memory_bytes: ")[1])
    assert fit(service(source, **{**stated, "kv_cache_memory_bytes": room}), folder).fits


def test_an_accelerator_of_unknown_memory_is_not_judged(tmp_path: Path) -> None:
    source = make_model(tmp_path)
    spec = service(source, {"accelerator": "GB300"})
    assert "set hardware.accelerator_memory" in str(why_unknown(spec, read_model_folder(source)))
    assert check_service(spec) == []
    known = service(source, {"accelerator": "GB300", "accelerator_memory": "80GiB"})
    assert [fault.loc for fault in check_service(known)] == [("hardware", "accelerator")]


def test_a_model_that_is_not_here_is_not_judged() -> None:
    spec = service("meta-llama/Llama-3.1-70B")
    assert "known once vLLM has fetched it" in str(why_unknown(spec, None))
    assert check_service(spec) == []


def test_on_cpu_one_full_request_must_fit_the_kv_cache(tmp_path: Path) -> None:
    source = make_model(tmp_path, elements=1000)
    spec = service(source, {"kv_cache": "1GiB"}, max_model_len=8192)
    (fault,) = check_service(spec)
    assert fault.loc == ("hardware", "kv_cache")
    assert "takes 2.539 GiB and does not fit in hardware.kv_cache 1GiB" in fault.message
    assert fault.hint == "what would fit: max_model_len: 3072, or hardware.kv_cache: 3GiB"
    assert check_service(service(source, {"kv_cache": "3GiB"}, max_model_len=8192)) == []
    assert check_service(service(source, {"kv_cache": "1GiB"}, max_model_len=3072)) == []
    assert check_service(service(source, {"kv_cache": "1GiB"}, max_model_len=3200)) != []


def test_the_overhead_is_stated() -> None:
    assert OVERHEAD_BYTES == GIB


@pytest.mark.parametrize(
    ("hardware", "args", "loc", "words"),
    [
        ({}, {"block_size": 16}, "block_size", "write 32"),
        ({}, {"block_size": 48}, "block_size", "multiple of 32"),
        ({}, {"kv_cache_memory_bytes": 3}, "kv_cache_memory_bytes", "set hardware.kv_cache"),
        ({}, {"max_model_len": 20_000}, "max_model_len", "write at most 16384"),
        ({}, {"tensor_parallel_size": 3}, "tensor_parallel_size", "write one of 1, 2, 4"),
    ],
)
def test_what_the_demo_model_cannot_do_on_cpu(
    hardware: dict[str, Any], args: dict[str, Any], loc: str, words: str
) -> None:
    (fault,) = check_service(service("demo", {"accelerator": "cpu", **hardware}, **args))
    assert fault.loc == ("model", "engine_args", loc)
    assert words in f"{fault.message}; {fault.hint}"


def test_on_an_accelerator_blocks_of_16_are_fine() -> None:
    assert check_service(service("demo", {"accelerator": "L4"}, block_size=16)) == []


@pytest.mark.parametrize(
    ("args", "context"),
    [({}, 4096), ({"max_model_len": -1}, 4096), ({"max_model_len": 9999}, 9999)],
)
def test_a_long_rope_is_judged_by_the_context_that_is_served(
    tmp_path: Path, args: dict[str, Any], context: int
) -> None:
    config = {
        **LLAMA_70B, "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
    }  # fmt: skip
    path = make_model(tmp_path, config, elements=1000)
    assert context_tokens(service(path, **args), read_model_folder(path)) == context
