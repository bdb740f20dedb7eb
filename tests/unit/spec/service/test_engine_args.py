from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.spec.files import SpecError
from forebay.spec.service import load_service_text
from forebay.spec.service.engine_args import faults, known_args, offered_args


def said(args: dict[str, Any]) -> list[str]:
    return [f"{fault.loc[0]}: {fault.message}; {fault.hint}" for fault in faults(args)]


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"max_num_seqs": 64, "block_size": 32, "dtype": "bfloat16", "enforce_eager": True},
        {"gpu_memory_utilization": 1, "quantization": "fp8", "kv_cache_dtype": "fp8_e4m3"},
        {"max_model_len": -1},
        {"block_size": None},
        {"speculative_config": {"method": "ngram"}, "compilation_config": {"level": 3}},
        {"scheduling_policy": "priority", "disable_log_stats": True},
        {"enable_auto_tool_choice": True, "tool_call_parser": "hermes"},
        {"max_lora_rank": 64, "optimization_level": 2},
        {"hf_token": "x"},
    ],
)
def test_what_vllm_takes_is_taken(args: dict[str, Any]) -> None:
    assert faults(args) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("max_model_length", 1, "no such argument; did you mean max_model_len?"),
        ("max-num-seqs", 1, "no such argument; did you mean max_num_seqs?"),
        ("zzzz", 1, "no such argument; see vLLM's engine arguments"),
        ("max_num_seqs", "64", '"64" is not a whole number'),
        ("max_num_seqs", 64.5, "64.5 is not a whole number"),
        ("max_num_seqs", True, "true is not a whole number"),
        ("max_num_seqs", 0, "0 is out of range; it must be at least 1"),
        ("block_size", -32, "-32 is out of range; it must be above 0"),
        ("max_model_len", 0, "0 is no length; write a number of tokens"),
        ("max_model_len", None, "null is not a whole number"),
        ("enforce_eager", 1, "1 is not true or false"),
        ("gpu_memory_utilization", 0, "it must be above 0 and at most 1"),
        ("gpu_memory_utilization", 1.1, "it must be above 0 and at most 1"),
        ("gpu_memory_utilization", "90%", '"90%" is not a number'),
        ("tensor_parallel_size", -1, "it must be at least 1"),
        ("dtype", "bf16", '"bf16" is not a value that vLLM knows; did you mean bfloat16?'),
        ("max_lora_rank", 7, "7 is not a value that vLLM knows"),
        ("allowed_origins", "*", '"*" is not a list'),
        ("model", "x", "Forebay takes it from model.source; remove it"),
        ("served_model_name", "x", "Forebay takes it from model.id; remove it"),
        ("scheduling_policy", "fcfs", 'write "priority" or remove it'),
        ("host", "0.0.0.0", "see server.host and port"),
        ("ssl_keyfile", "k", "end TLS in a proxy in front of it"),
        ("api_key", ["k"], "decided at Forebay's gate"),
        ("distributed_executor_backend", "mp", "Forebay chooses it by the hardware"),
        ("data_parallel_size", 2, "set scaling.min and scaling.max"),
        ("max_num_queued_reqs", 80, "Forebay's gate bounds the queue"),
        ("max_num_queued_tokens", 80, "admission.max_queued_tokens"),
    ],
)
def test_what_cannot_be_passed_on_is_refused_with_the_reason(
    name: str, value: object, words: str
) -> None:
    found = said({name: value})
    assert len(found) == 1
    assert found[0].startswith(f"{name}: ")
    assert words in found[0]


def test_arguments_that_vllm_refuses_together_are_refused_together() -> None:
    assert "below max_num_seqs, 128" in said({"max_num_batched_tokens": 64, "max_num_seqs": 128})[0]
    whole = {"max_num_batched_tokens": 512, "max_model_len": 1024}
    assert faults(whole) == []
    assert "chunked prefill is off" in said({**whole, "enable_chunked_prefill": False})[0]


def test_a_suggestion_is_never_an_argument_that_forebay_sets_itself() -> None:
    assert not {"model", "host", "port", "data_parallel_size"} & set(offered_args())
    assert "max_num_queued_tokens" not in said({"max_num_queued_token": 3})[0]


def test_every_fault_of_the_arguments_is_at_its_own_line() -> None:
    text = """\
name: chat
model:
  id: demo
  source: demo
  engine_args:
    max_num_seqs: 0
    max_model_leng: 4096
    dtype: bfloat16
    port: 80
"""
    with pytest.raises(SpecError) as refused:
        load_service_text(text)
    found = [(one.line, one.field) for one in refused.value.problems]
    assert found == [
        (6, "model.engine_args.max_num_seqs"),
        (7, "model.engine_args.max_model_leng"),
        (9, "model.engine_args.port"),
    ]


@given(
    st.sampled_from(sorted(known_args())),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
def test_any_value_of_any_argument_is_judged_without_failing(name: str, value: object) -> None:
    assert len(faults({name: value})) <= 1
