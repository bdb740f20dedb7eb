"""Ctrl-C at any moment leaves no process and no port behind."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from serving_process import ENGINE_SERVICE, ServingProcess, started
from slow_client import drains_to_the_end


def is_gone(serving: ServingProcess) -> None:
    assert serving.leftovers() == []
    assert serving.ports_are_free()
    assert not any("Traceback" in line for line in serving.lines), "\n".join(serving.lines[-40:])


@pytest.mark.parametrize(
    ("moment", "by"),
    [
        pytest.param("starting Ray$", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("starting Ray Serve", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("starting a replica", signal.SIGINT, marks=pytest.mark.slow),
        ("loading the model", signal.SIGINT),
        pytest.param("loading the model", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_interrupted_while_starting(tmp_path: Path, moment: str, by: int) -> None:
    with started(ENGINE_SERVICE, tmp_path) as serving:
        serving.wait_for(moment)
        assert serving.interrupt(by=by) == 0
        is_gone(serving)


@pytest.mark.slow
def test_interrupted_under_load_while_a_client_still_reads(tmp_path: Path) -> None:
    with started(ENGINE_SERVICE, tmp_path, drain="60s") as serving:
        serving.wait_for("Ctrl-C drains")
        drains_to_the_end(serving, more={"logprobs": 5})
        is_gone(serving)


def test_a_taken_port_is_refused_at_once(service: ServingProcess, tmp_path: Path) -> None:
    with started(ENGINE_SERVICE, tmp_path, port=service.port) as second:
        second.wait_for("server.port.*cannot be used")
        assert second.process.wait(timeout=30) == 3
