"""A service's spec, and a replica of it whose engine is emulated, without anything that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gate_world import STOP, Clock

from forebay.engine_model import EngineProfile
from forebay.serving.app import EngineLimits, Replica
from forebay.spec.service import ServiceSpec

MODEL = {"id": "m", "source": "demo-cpu", "engine": "emulated"}


def service(*, folder: Path | None = None, **more: Any) -> ServiceSpec:
    """An emulated service named s, with what a test says of it."""
    content = {"name": "s", "model": MODEL, **more}
    return ServiceSpec.model_validate(content, context={"folder": folder or Path()})


def limits(**changes: Any) -> EngineLimits:
    """Of a small engine."""
    small = {
        "slots": 4, "kv_tokens": 10_000, "step_tokens": 512, "context_tokens": 2_048,
        "longest_token": 9, "stop_reason": STOP, "prefix_caching": True,
    }  # fmt: skip
    return EngineLimits(**{**small, **changes})


def limits_of(profile: EngineProfile, **changes: Any) -> EngineLimits:
    """Of an emulated engine."""
    given = {
        "slots": profile.max_num_seqs,
        "kv_tokens": profile.kv_tokens,
        "step_tokens": profile.max_num_batched_tokens,
        "context_tokens": profile.max_model_len,
        "prefix_caching": profile.prefix_caching,
    }
    return limits(**{**given, **changes})


def replica(
    spec: ServiceSpec | None = None, engine: EngineLimits | None = None, **more: Any
) -> Replica:
    """A replica by the name of r1, by a clock that stands unless it is given another."""
    return Replica(
        spec or service(), engine or limits(), more.pop("clock", Clock()), name="r1", seed=0, **more
    )
