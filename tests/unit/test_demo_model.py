"""The bundled demo model's folder: what a server and a reader of its card rely on.

Needs the folder and the `tokenizers` package; no torch, no engine, no network.
"""

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

import forebay

FOLDER = Path(forebay.__file__).with_name("demo_model")
FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
MEGABYTE = 1_000_000
SPECIALS = ["<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]

TOKENIZER = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return content


def weights_header() -> dict[str, Any]:
    """A safetensors file opens with the length of its JSON header, then the header."""
    with (FOLDER / "model.safetensors").open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__")
    return header


def render(messages: list[dict[str, Any]], *, prompt: bool = False) -> str:
    """The chat template, in the environment that servers render it in."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(read("tokenizer_config.json")["chat_template"])
    return template.render(messages=messages, add_generation_prompt=prompt)


def test_folder_is_complete_and_small_enough_to_ship() -> None:
    assert {path.name for path in FOLDER.iterdir()} == FILES
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12 * MEGABYTE


def test_config_is_a_llama_with_a_16k_context() -> None:
    config = read("config.json")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == 16384
    assert read("tokenizer_config.json")["model_max_length"] == 16384
    assert config["vocab_size"] == TOKENIZER.get_vocab_size() == 4096


def test_weights_are_what_the_card_says() -> None:
    tensors = weights_header().values()
    assert {tensor["dtype"] for tensor in tensors} == {"BF16"}
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    stated = re.search(r"parameters \| ([\d,]+)", card)
    assert stated is not None
    assert sum(math.prod(tensor["shape"]) for tensor in tensors) == int(stated[1].replace(",", ""))


def test_card_has_no_placeholder_left() -> None:
    assert "$" not in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_file_names_the_same_end_and_pad() -> None:
    end, pad = TOKENIZER.token_to_id("<|end|>"), TOKENIZER.token_to_id("<|pad|>")
    for name in ("config.json", "generation_config.json"):
        assert (read(name)["eos_token_id"], read(name)["pad_token_id"]) == (end, pad)
    tokenizer = read("tokenizer_config.json")
    assert (tokenizer["eos_token"], tokenizer["pad_token"]) == ("<|end|>", "<|pad|>")


@given(st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("marker", SPECIALS)
def test_markers_are_single_tokens(marker: str) -> None:
    assert len(TOKENIZER.encode(marker).ids) == 1


def test_template_renders_every_role() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "1 + "}, {"type": "text", "text": "1?"}],
        },
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "2", "tool_call_id": "a"},
    ]
    assert render(messages) == (
        "<|system|>Be brief.<|end|><|user|>1 + 1?<|end|><|assistant|><|end|><|tool|>2<|end|>"
    )


def test_template_opens_the_assistants_turn_when_asked() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert render(messages, prompt=True) == "<|user|>Hi<|end|><|assistant|>"
    assert render(messages) == "<|user|>Hi<|end|>"


@pytest.mark.parametrize(
    ("role", "marker"), [("developer", "system"), ("function", "tool"), ("narrator", "user")]
)
def test_template_maps_a_foreign_role_to_the_nearest(role: str, marker: str) -> None:
    assert render([{"role": role, "content": "x"}]) == f"<|{marker}|>x<|end|>"


def test_template_skips_parts_that_are_not_text() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "x"}]
    assert render([{"role": "user", "content": parts}]) == "<|user|>x<|end|>"
