"""What a local model folder says about its size: `config.json` and the headers of its weights.

Reads headers only (a few kB of each file), never the weights themselves.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Bytes of one element, by the names that safetensors headers use.
_FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_OTHER_WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.gguf")
# config.json's names for the context window, as vLLM 0.29 knows them
# (transformers_utils/model_arch_config_convertor.py); the smallest one counts.
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
_LONG_ROPE = ("longrope", "su")  # two names of one
_MAX_HEADER = 100 * 2**20  # the safetensors format's own limit


class ModelFolderError(ValueError):
    """The folder is not a model that can be served; the text says why."""


@dataclass(frozen=True)
class ModelShape:
    """The figures of a model that decide how much KV cache a token takes."""

    layers: int
    sliding_layers: int  # of `layers`, those that keep only a window of tokens
    stateless_layers: int  # of `layers`, those without KV per token (linear attention, mamba)
    window_tokens: int
    attention_heads: int
    kv_heads: int
    head_dim: int
    latent_dim: int  # MLA: elements kept per token and layer in place of K and V; else 0

    @property
    def full_layers(self) -> int:
        """Layers that keep every token."""
        return self.layers - self.sliding_layers - self.stateless_layers

    @property
    def is_mla(self) -> bool:
        """Whether it caches one latent vector per token (multi-head latent attention)."""
        return self.latent_dim > 0


@dataclass(frozen=True)
class ModelFolder:
    """A local model: its context window, its weights, and its shape where config.json says it."""

    path: Path
    context_tokens: int | None  # None: config.json does not say it in a form known here
    default_context_tokens: int | None  # where nobody asks for one
    dtype: str  # as config.json names it; "auto" when it does not
    float_elements: int  # weights stored as floating point: they follow the engine's dtype
    other_bytes: int  # weights stored in another form (quantized): they keep their size
    quantized: bool
    shape: ModelShape | None


def read_model_folder(path: Path) -> ModelFolder:
    """The model in the folder.

    Raises:
        ModelFolderError: no such folder, or no config.json or weights in it that can be read.
    """
    try:
        if not path.is_dir():
            raise ModelFolderError(f"there is no folder {path}")
        return _read(path)
    except OSError as error:
        raise ModelFolderError(f"{path} cannot be read: {error.strerror}") from None


def _read(path: Path) -> ModelFolder:
    config = _read_json(path / "config.json")
    text: Mapping[str, Any] = config.get("text_config") or config
    elements, other = _weigh(path)
    context = _context_tokens(text)
    dtypes = (where.get(key) for where in (text, config) for key in ("dtype", "torch_dtype"))
    return ModelFolder(
        path=path,
        context_tokens=context,
        default_context_tokens=_default_context_tokens(text, context),
        dtype=next((name for name in dtypes if isinstance(name, str)), "auto"),
        float_elements=elements,
        other_bytes=other,
        quantized=any(where.get("quantization_config") for where in (text, config)),
        shape=_shape(text),
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelFolderError(f"{file.parent} holds no {file.name}") from None
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ModelFolderError(f"{file} is not a JSON object")
    return content


def _shape(text: Mapping[str, Any]) -> ModelShape | None:
    """The shape of a decoder, or None for a config.json that names its figures otherwise."""
    try:
        layers, heads = int(text["num_hidden_layers"]), int(text["num_attention_heads"])
        sliding, stateless = _layer_kinds(text, layers)
        latent = int(text.get("kv_lora_rank") or 0)
        return ModelShape(
            layers=layers,
            sliding_layers=sliding,
            stateless_layers=stateless,
            window_tokens=int(text.get("sliding_window") or 0),
            attention_heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or int(text["hidden_size"]) // heads),
            latent_dim=latent + int(text.get("qk_rope_head_dim") or 0) if latent else 0,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def _layer_kinds(text: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """How many layers keep only a window of tokens, and how many keep no KV at all."""
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        sliding = kinds.count("sliding_attention") + kinds.count("chunked_attention")
        return sliding, len(kinds) - sliding - kinds.count("full_attention")
    windowed = text.get("sliding_window") and text.get("use_sliding_window", True)
    return (layers if windowed else 0), 0


def _context_tokens(text: Mapping[str, Any]) -> int | None:
    """The context window as vLLM derives it, RoPE scaling included."""
    try:
        lengths = [int(text[key]) for key in _CONTEXT_KEYS if text.get(key)]
        length = int(text.get("model_max_length") or min(lengths))
        kind, rope = _rope(text)
        factor = float(rope.get("factor") or 1.0)
        if kind == "yarn":
            return int(int(rope["original_max_position_embeddings"]) * factor)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    if kind in ("default", "mrope", "llama3", *_LONG_ROPE):
        return length
    if "gemma3" in str(text.get("model_type")):
        return length  # its figure is the scaled one
    return int(length * factor) if kind in ("linear", "dynamic") else None


def _default_context_tokens(text: Mapping[str, Any], most: int | None) -> int | None:
    """Of LongRoPE what it was trained with: vLLM spares shorter requests the longer one."""
    trained = text.get("original_max_position_embeddings")
    if most is not None and isinstance(trained, int) and _rope(text)[0] in _LONG_ROPE:
        return trained
    return most


def _rope(text: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The kind of RoPE, and its parameters."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    return str(rope.get("rope_type") or rope.get("type") or "default"), rope


def _weigh(path: Path) -> tuple[int, int]:
    """Elements stored as floating point, and bytes of everything else."""
    files = weight_files(path)
    if files:
        weighed = [_weigh_file(file) for file in files]
        return sum(elements for elements, _ in weighed), sum(rest for _, rest in weighed)
    others = [file for pattern in _OTHER_WEIGHTS for file in path.glob(pattern)]
    if not others:
        raise ModelFolderError(f"{path} holds no weights (*.safetensors)")
    return 0, sum(file.stat().st_size for file in others)


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights once: a folder may carry a second, consolidated copy."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        names = _read_json(index).get("weight_map")
        if isinstance(names, dict):
            return sorted(path / str(name) for name in set(names.values()))
    files = sorted(path.glob("*.safetensors"))
    return [file for file in files if not file.name.startswith("consolidated")] or files


def _weigh_file(file: Path) -> tuple[int, int]:
    elements = rest = 0
    try:
        for name, tensor in _read_header(file).items():
            if name == "__metadata__":
                continue
            start, end = tensor["data_offsets"]
            width = _FLOATS.get(tensor["dtype"])
            elements += (end - start) // width if width else 0
            rest += 0 if width else end - start
    except FileNotFoundError:
        raise ModelFolderError(f"{file.parent} lacks {file.name}, which its index names") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(f"{file} is not a safetensors file: {error}") from None
    return elements, rest


def _read_header(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        start = stream.read(8)
        if start == b"version ":
            raise ValueError("it is a Git LFS pointer; fetch the weights with git lfs pull")
        size = int.from_bytes(start, "little")
        if not 2 <= size <= _MAX_HEADER:
            raise ValueError(f"its header would be {size} bytes long")
        header: dict[str, Any] = json.loads(stream.read(size))
        return header
