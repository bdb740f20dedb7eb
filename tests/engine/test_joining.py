"""`forebay serve` on a Ray cluster that runs already: used, left running, and left clean."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from serving_process import ENGINE_SERVICE, ServingProcess, free_port, port_is_free

RAY = str(Path(sys.executable).parent / "ray")
START_S = 60.0


class Cluster:
    """A Ray cluster of one node, started as its administrator would."""

    def __init__(self) -> None:
        self.port = free_port()
        # Not pytest's folder: the path of a Unix socket may only be some hundred bytes long.
        self._folder = tempfile.mkdtemp(prefix="ray-")
        command = [RAY, "start", "--head", "--block", f"--port={self.port}", "--num-cpus=2"]
        command += ["--include-dashboard=false", "--disable-usage-stats"]
        command += [f"--temp-dir={self._folder}", f"--metrics-export-port={free_port()}"]
        command += [f"--ray-client-server-port={free_port()}", "--object-store-memory=100000000"]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
        give_up = time.monotonic() + START_S
        while not self.names_of("raylet"):
            assert self._process.poll() is None, "ray start ended"
            assert time.monotonic() < give_up, "no raylet"
            os.sched_yield()

    def names_of(self, part: str) -> list[str]:
        """Names of the cluster's processes that contain `part`."""
        names: list[str] = []
        for process in psutil.Process(self._process.pid).children(recursive=True):
            try:
                names += [title for title in process.cmdline()[:1] if part in title]
            except psutil.NoSuchProcess:
                continue
        return names

    def end(self) -> None:
        """End it by its own process ids; nothing that it still does is worth waiting for."""
        family = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(timeout=30)
        psutil.wait_procs(family, timeout=10)
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    try:
        yield made
    finally:
        made.end()


def test_a_running_cluster_is_used_and_left_as_it_was(cluster: Cluster, tmp_path: Path) -> None:
    serving = ServingProcess(ENGINE_SERVICE, tmp_path, ray_address=f"127.0.0.1:{cluster.port}")
    try:
        serving.wait_for("Ctrl-C drains")
        assert cluster.names_of("VLLM::EngineCore"), "the engine does not run in the cluster"
        body = {"model": "demo", "prompt": "river", "max_tokens": 4}
        request = urllib.request.Request(
            f"{serving.url}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["usage"]["completion_tokens"] == 4
        assert serving.interrupt() == 0, "\n".join(serving.lines[-40:])
        assert serving.leftovers() == []
        assert port_is_free(serving.port)
        assert cluster.names_of("raylet"), "the cluster was ended with the service"
        assert cluster.names_of("VLLM") == cluster.names_of("ServeReplica") == []
    finally:
        serving.end()


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    serving = ServingProcess(ENGINE_SERVICE, tmp_path, ray_address=address)
    try:
        serving.wait_for(f"server.ray_address.*{address}", timeout_s=30)
        assert serving.process.wait(timeout=30) == 3
    finally:
        serving.end()
