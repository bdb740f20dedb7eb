"""What a model computes in where the file leaves it to the machine."""

from __future__ import annotations

import pytest
import torch

from forebay.serving.app import dtypes, engine_dtype
from forebay.spec.service import ServiceSpec


def service(accelerator: str, **engine_args: str) -> ServiceSpec:
    hardware = {"accelerator": accelerator}
    if accelerator == "cpu":
        hardware["kv_cache"] = "1GiB"
    model = {"id": "demo", "source": "demo", "engine_args": engine_args}
    return ServiceSpec.model_validate({"name": "t", "model": model, "hardware": hardware})


@pytest.mark.parametrize("asked", [{}, {"dtype": "auto"}])
@pytest.mark.parametrize(("fast", "expected"), [(True, "auto"), (False, "float32")])
def test_a_cpu_that_is_slow_at_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, str], fast: bool, expected: str
) -> None:
    monkeypatch.setattr(dtypes, "bfloat16_is_fast", lambda: fast)
    assert engine_dtype(service("cpu", **asked)) == expected


def test_what_the_file_asks_for_is_never_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "bfloat16_is_fast", lambda: False)
    assert engine_dtype(service("cpu", dtype="bfloat16")) == "bfloat16"


def test_gpus_follow_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "bfloat16_is_fast", lambda: False)
    assert engine_dtype(service("H100")) == "auto"


@pytest.mark.parametrize(("seconds", "fast"), [(0.5, True), (1.0, True), (1.7, False)])
def test_what_is_timed_decides(monkeypatch: pytest.MonkeyPatch, seconds: float, fast: bool) -> None:
    times = {"bfloat16": seconds, "float32": 1.0}
    monkeypatch.setattr(dtypes, "_product_s", times.__getitem__)
    assert dtypes.bfloat16_is_fast() == fast


def test_this_machine_is_timed_and_its_threads_are_left_as_they_were() -> None:
    threads = torch.get_num_threads()
    assert isinstance(dtypes.bfloat16_is_fast(), bool)
    assert torch.get_num_threads() == threads
