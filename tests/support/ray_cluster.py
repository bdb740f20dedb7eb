"""A Ray cluster of one node, started as its administrator would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from forebay.serving.app import free_ports

RAY = str(Path(sys.executable).parent / "ray")
START_S = 60.0


def wait_for_raylet(head: subprocess.Popen[bytes], raylets: Callable[[], Sized]) -> None:
    """Until the head has one; Ray has both of two cores meanwhile.

    Raises:
        AssertionError: it ended, or has none within a minute.
    """
    give_up = time.monotonic() + START_S
    while not raylets():
        assert head.poll() is None, "ray start ended"
        assert time.monotonic() < give_up, "no raylet"
        time.sleep(0.1)


class Cluster:
    """Processes, ports and a folder of its own."""

    def __init__(self) -> None:
        self.port, metrics, client = free_ports(3)
        # Not pytest's folder: the path of a Unix socket may only be some hundred bytes long.
        self._folder = tempfile.mkdtemp(prefix="ray-")
        command = [RAY, "start", "--head", "--block", f"--port={self.port}", "--num-cpus=2"]
        command += ["--include-dashboard=false", "--disable-usage-stats"]
        command += [f"--temp-dir={self._folder}", f"--metrics-export-port={metrics}"]
        command += [f"--ray-client-server-port={client}", "--object-store-memory=100000000"]
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )
        try:
            wait_for_raylet(self._process, lambda: self.names_of("raylet"))
        except BaseException:
            self.end()
            raise

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
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(timeout=30)
        psutil.wait_procs(family, timeout=10)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """One that ends with the block."""
    made = Cluster()
    try:
        yield made
    finally:
        made.end()
