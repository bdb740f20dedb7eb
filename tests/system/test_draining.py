"""Ctrl-C where what should be asked is far away, or does not answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest
import yaml
from ray_cluster import Cluster
from serving_process import started
from slow_client import reads_to_the_end, unread_answer

pytestmark = pytest.mark.slow

SERVICE = Path(__file__).parent / "service.yaml"
ANSWERS = {"model": "demo", "prompt": ["river"] * 8, "max_tokens": 1_500, "ignore_eos": True}


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    """The file of a service with one replica, which has no router."""
    file = tmp_path / "lone.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(SERVICE.read_text()), "scaling": {}}))
    return file


def test_a_joined_clusters_proxy_is_asked_what_clients_still_read(
    cluster: Cluster, lone: Path, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{cluster.port}"
    with started(lone, tmp_path, ray_address=address, drain="60s") as joined:
        joined.wait_for("Ctrl-C drains")
        with unread_answer(joined, ANSWERS) as client:
            joined.remember_family()
            joined.process.send_signal(signal.SIGINT)
            joined.wait_for("waiting for clients that still read", timeout_s=60)
            assert reads_to_the_end(client)
        assert joined.process.wait(timeout=60) == 0
        assert "some requests may still be running" not in joined.lines
        assert joined.leftovers() == []


def test_a_controller_that_hangs_does_not_hang_the_drain(lone: Path, tmp_path: Path) -> None:
    with started(lone, tmp_path, drain="600s") as serving:
        serving.wait_for("Ctrl-C drains")
        serving.remember_family()
        controller = next(
            process
            for process in psutil.Process(serving.process.pid).children(recursive=True)
            if "ServeController" in " ".join(process.cmdline())
        )
        os.kill(controller.pid, signal.SIGSTOP)
        assert serving.interrupt(timeout_s=120) == 0
        assert any("controller has not answered for" in line for line in serving.lines)
        assert serving.leftovers() == []
