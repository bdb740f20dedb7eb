import json
from pathlib import Path
from typing import Any

import pytest
from model_folders import LLAMA_70B, LLAMA_70B_ELEMENTS, make_model, write_header

from forebay.spec.service import read_model_folder
from forebay.spec.service.model_folder import ModelFolderError
from forebay.spec.service.service_spec import DEMO_MODEL


def test_the_bundled_model_is_read() -> None:
    folder = read_model_folder(DEMO_MODEL)
    assert folder.context_tokens == 16_384
    assert 1_000_000 < folder.float_elements < 10_000_000
    assert folder.shape is not None
    assert folder.shape.attention_heads % folder.shape.kv_heads == 0


def test_a_large_model_is_read_from_its_headers(tmp_path: Path) -> None:
    folder = read_model_folder(make_model(tmp_path))
    assert (folder.float_elements, folder.other_bytes) == (LLAMA_70B_ELEMENTS, 0)
    assert folder.context_tokens == 131_072
    assert folder.dtype == "bfloat16"
    assert folder.shape is not None
    assert (folder.shape.layers, folder.shape.kv_heads, folder.shape.head_dim) == (80, 8, 128)


def test_quantized_weights_keep_their_size(tmp_path: Path) -> None:
    folder = read_model_folder(make_model(tmp_path, elements=1000, dtype="I32"))
    assert (folder.float_elements, folder.other_bytes) == (0, 4000)


def test_only_the_files_of_the_index_are_weighed(tmp_path: Path) -> None:
    folder = make_model(tmp_path, elements=10)
    write_header(folder / "extra.safetensors", "BF16", 2000)
    assert read_model_folder(folder).float_elements == 1010
    index = {"weight_map": {"weight": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_model_folder(folder).float_elements == 10


def test_a_consolidated_copy_is_not_weighed_twice(tmp_path: Path) -> None:
    folder = make_model(tmp_path, elements=10)
    write_header(folder / "consolidated.safetensors", "BF16", 20)
    assert read_model_folder(folder).float_elements == 10


@pytest.mark.parametrize(
    ("change", "context"),
    [
        ({}, 131_072),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, 262_144),
        (
            {
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32_768,
                }
            },
            131_072,
        ),
        ({"rope_scaling": {"rope_type": "unheard_of", "factor": 2.0}}, None),
        ({"max_position_embeddings": None}, None),
        ({"rope_scaling": None, "rope_parameters": {"rope_type": "default"}}, 131_072),
    ],
)
def test_the_context_window_includes_rope_scaling(
    tmp_path: Path, change: dict[str, Any], context: int | None
) -> None:
    assert (
        read_model_folder(make_model(tmp_path, {**LLAMA_70B, **change})).context_tokens == context
    )


def test_layers_with_a_window_and_layers_without_state_are_told_apart(tmp_path: Path) -> None:
    kinds = ["full_attention", "sliding_attention", "linear_attention", "sliding_attention"]
    config = {**LLAMA_70B, "num_hidden_layers": 4, "layer_types": kinds, "sliding_window": 1024}
    shape = read_model_folder(make_model(tmp_path, config)).shape
    assert shape is not None
    assert (shape.full_layers, shape.sliding_layers, shape.stateless_layers) == (1, 2, 1)


def test_a_text_model_inside_a_multimodal_one_is_found(tmp_path: Path) -> None:
    folder = read_model_folder(
        make_model(tmp_path, {"text_config": LLAMA_70B, "vision_config": {}})
    )
    assert folder.shape is not None
    assert folder.shape.layers == 80


def test_a_config_with_other_names_is_a_model_of_unknown_shape(tmp_path: Path) -> None:
    folder = read_model_folder(
        make_model(tmp_path, {"n_layer": 12, "n_head": 12, "n_positions": 1024})
    )
    assert folder.shape is None
    assert folder.context_tokens == 1024


def _delete_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _break_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def _list_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _delete_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _break_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def _missing_shard(folder: Path) -> None:
    index = {"weight_map": {"weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_delete_config, "holds no config.json"),
        (_break_config, "config.json cannot be read"),
        (_list_config, "config.json is not a JSON object"),
        (_delete_weights, "holds no weights"),
        (_break_weights, "is not a safetensors file"),
        (_pointer, "Git LFS pointer; fetch the weights with git lfs pull"),
        (_missing_shard, "lacks model-00001-of-00002.safetensors, which its index names"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, damage: Any, words: str) -> None:
    folder = make_model(tmp_path, elements=10)
    damage(folder)
    with pytest.raises(ModelFolderError, match=words):
        read_model_folder(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="there is no folder"):
        read_model_folder(tmp_path / "none")


def test_long_rope_is_served_with_what_it_was_trained_with_unless_asked(tmp_path: Path) -> None:
    """As vLLM does: `vllm/config/model.py`, where nobody gives `max_model_len`."""
    config = {
        **LLAMA_70B, "original_max_position_embeddings": 4096,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]},
    }  # fmt: skip
    folder = read_model_folder(make_model(tmp_path, config))
    assert (folder.context_tokens, folder.default_context_tokens) == (131_072, 4096)


def test_the_context_of_gemma_3_is_scaled_already(tmp_path: Path) -> None:
    scaled = {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    config = {**LLAMA_70B, **scaled, "model_type": "gemma3_text"}
    folder = read_model_folder(make_model(tmp_path, config))
    assert folder.context_tokens == folder.default_context_tokens == 131_072
