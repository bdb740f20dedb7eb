"""The `model` section: which model is served, and how its engine is set."""

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from forebay.engine_model import PROFILES
from forebay.spec.files import Seconds, Strict, as_validation_error, did_you_mean, refusal
from forebay.spec.service import engine_args

DEMO_MODEL = Path(__file__).parent.parent.parent / "demo_model"

_HUGGING_FACE_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def _looks_like_path(source: str) -> bool:
    return source.startswith((".", "/", "~"))


def _expanded(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # the home of a user that does not exist: the folder is not there either
        return Path(source)


def _known_profile(name: str) -> str:
    if name in PROFILES:
        return name
    hint = did_you_mean(name, PROFILES) or f"write one of {', '.join(PROFILES)}"
    raise refusal(f"there is no profile {name} of an emulated engine", hint)


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
    engine: Literal["vllm", "emulated"] = Field(
        default="vllm",
        description="Inference engine: `vllm`, or `emulated`: no model at all, but the times that "
        "one would take, for rehearsing routing, admission and scaling without GPUs. Default "
        "vllm: it serves.",
    )
    source: str = Field(
        min_length=1,
        examples=["demo"],
        description="Where the weights are: `demo` (the small model that Forebay brings along), a "
        "folder (starts with `.`, `/` or `~`, or exists; relative to this file), or a Hugging "
        "Face id such as `Qwen/Qwen3-0.6B`. For the emulated engine the name of a profile: "
        f"{', '.join(f'`{name}`' for name in PROFILES)}.",
    )
    slowed: float = Field(
        default=1.0,
        ge=1,
        description="Factor by which an emulated engine is slower than its profile, and the SLO "
        "with it, so that a small machine can carry a large fleet's tokens; divide the rates that "
        "you offer by it. Default 1: at its own speed.",
    )
    cold_start: Seconds = Field(
        default=0.0,
        ge=0,
        description="How long an emulated engine takes to start, before it is slowed: weights, "
        "compilation and warm-up. Default 0s: at once, for what is not about scaling; an 8B model "
        "on an H100 takes about 1m.",
    )
    engine_args: dict[str, Any] = Field(
        default_factory=dict,
        examples=[{"max_num_seqs": 64}],
        description="Arguments of the engine under vLLM's own names, such as `max_model_len` "
        "(tokens) or `tensor_parallel_size` (accelerators). Default: vLLM's own defaults, and "
        "`dtype` float32 on a CPU that computes bfloat16 more slowly.",
    )

    @field_validator("source")
    @classmethod
    def _source_is_known_kind(cls, source: str, info: ValidationInfo) -> str:
        if info.data.get("engine") == "emulated":
            return _known_profile(source)
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

    @field_validator("slowed")
    @classmethod
    def _only_an_emulated_engine_is_slowed(cls, factor: float, info: ValidationInfo) -> float:
        if factor != 1 and info.data.get("engine") == "vllm":
            raise refusal("is for engine: emulated only", "remove it")
        return factor

    @field_validator("cold_start")
    @classmethod
    def _only_an_emulated_engine_is_told_its_start(
        cls, seconds: float, info: ValidationInfo
    ) -> float:
        if seconds and info.data.get("engine") == "vllm":
            raise refusal("is for engine: emulated only", "remove it")
        return seconds

    @field_validator("engine_args")
    @classmethod
    def _an_emulated_engine_has_its_profile(
        cls, args: dict[str, Any], info: ValidationInfo
    ) -> dict[str, Any]:
        if args and info.data.get("engine") == "emulated":
            raise refusal("are vLLM's; an emulated engine is set by its profile", "remove them")
        return args

    @field_validator("engine_args")
    @classmethod
    def _engine_args_are_vllms(cls, args: dict[str, Any]) -> dict[str, Any]:
        faults = engine_args.faults(args)
        if faults:
            raise as_validation_error("engine_args", faults)
        return args

    @property
    def is_emulated(self) -> bool:
        """Whether no model is run."""
        return self.engine == "emulated"

    @property
    def source_path(self) -> Path | None:
        """Folder of the model; None for a Hugging Face id and for an emulated engine."""
        if self.is_emulated:
            return None
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
