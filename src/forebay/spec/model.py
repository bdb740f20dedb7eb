"""The `model` section: which model is served, and how its engine is set."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from forebay.spec import engine_args
from forebay.spec.problems import as_validation_error, refusal
from forebay.spec.strict import Strict

DEMO_MODEL = Path(__file__).parent.parent / "demo_model"

_HUGGING_FACE_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def _looks_like_path(source: str) -> bool:
    return source.startswith((".", "/", "~"))


def _expanded(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # the home of a user that does not exist: the folder is not there either
        return Path(source)


def _is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except (OSError, ValueError):  # not a name that a file could have
        return False


class ModelSpec(Strict):
    """Which model is served, and how its engine is set."""

    id: str = Field(
        min_length=1,
        examples=["demo"],
        description="Name that clients put into the `model` field of their requests.",
    )
    source: str = Field(
        min_length=1,
        examples=["demo"],
        description="Where the weights are: `demo` (the small model that Forebay brings along), a "
        "folder (starts with `.`, `/` or `~`, or exists; relative to this file), or a Hugging "
        "Face id such as `Qwen/Qwen3-0.6B`.",
    )
    engine: Literal["vllm"] = Field(
        default="vllm", description="Inference engine. vLLM is the only one that Forebay drives."
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict,
        examples=[{"max_num_seqs": 64}],
        description="Arguments of the engine under vLLM's own names, such as `max_model_len` "
        "(tokens) or `tensor_parallel_size` (accelerators). Default: vLLM's own defaults.",
    )

    @field_validator("source")
    @classmethod
    def _source_is_known_kind(cls, source: str, info: ValidationInfo) -> str:
        base = (info.context or {}).get("folder", Path())
        folder = base / _expanded(source)
        if source == "demo":
            return source
        if _looks_like_path(source) or _is_there(folder):
            return str(folder.absolute())
        if _HUGGING_FACE_ID.fullmatch(source):
            return source
        raise refusal(
            f"{source!r} is neither demo, nor a folder that exists, nor a Hugging Face id",
            "write demo, ./folder or org/name",
        )

    @field_validator("engine_args")
    @classmethod
    def _engine_args_are_vllms(cls, args: dict[str, Any]) -> dict[str, Any]:
        faults = engine_args.faults(args)
        if faults:
            raise as_validation_error("engine_args", faults)
        return args

    @property
    def source_path(self) -> Path | None:
        """Folder of the model; None when the source is a Hugging Face id."""
        if self.source == "demo":
            return DEMO_MODEL
        return Path(self.source) if _looks_like_path(self.source) else None

    @property
    def tensor_parallel_size(self) -> int:
        """Accelerators over which each layer is split."""
        return int(self.engine_args.get("tensor_parallel_size", 1))

    @property
    def pipeline_parallel_size(self) -> int:
        """Groups of accelerators over which the layers are dealt out."""
        return int(self.engine_args.get("pipeline_parallel_size", 1))
