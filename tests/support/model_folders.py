"""Model folders for the tests: a config.json, and weights that are a header and a hole."""

import json
from pathlib import Path
from typing import Any

GIB = 2**30

# Llama 3.1 70B: 80 layers, 64 heads of 128, 8 KV heads, context 131,072.
LLAMA_70B: dict[str, Any] = {
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "hidden_size": 8192,
    "max_position_embeddings": 131_072,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
    "torch_dtype": "bfloat16",
}
LLAMA_70B_ELEMENTS = 70_553_706_496


def make_model(
    parent: Path,
    config: dict[str, Any] | None = None,
    elements: int = LLAMA_70B_ELEMENTS,
    dtype: str = "BF16",
) -> Path:
    """A model folder below `parent`; its weights take no space, whatever size they claim."""
    folder = parent / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_70B if config is None else config))
    width = {"F32": 4, "BF16": 2, "I32": 4, "F8_E4M3": 1}[dtype]
    write_header(folder / "model.safetensors", dtype, elements * width)
    return folder


def write_header(file: Path, dtype: str, size: int) -> None:
    """A safetensors file of one tensor of `size` bytes, of which only the header is written."""
    tensor = {"dtype": dtype, "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "weight": tensor}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
