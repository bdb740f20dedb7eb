"""A `forebay serve` process under test: started, watched, stopped, and searched for leftovers."""

from __future__ import annotations

import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import psutil
import yaml

from forebay.serving.app import free_ports

FOREBAY = str(Path(sys.executable).parent / "forebay")
ENGINE_SERVICE = Path(__file__).parent.parent / "engine" / "service.yaml"
START_S = 240.0


def free_port() -> int:
    """A port that nothing listens on just now."""
    return free_ports(1)[0]


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class ServingProcess:
    """One `forebay serve`."""

    def __init__(self, service: Path, folder: Path, **server: Any) -> None:
        """Start it on free ports.

        `service` is the file, copied to `folder`; `server` overrides keys of that section.
        """
        # A Ray started here makes a token that later ones ask for; tests need no guard.
        env = {**os.environ, "RAY_AUTH_MODE": "disabled"} if "ray_address" in server else None
        self.port, self.metrics_port = free_ports(2)
        spec = yaml.safe_load(service.read_text())
        spec.setdefault("server", {}).update(
            {"port": self.port, "metrics_port": self.metrics_port, **server}
        )
        file = folder / "service.yaml"
        file.write_text(yaml.safe_dump(spec))
        self.file = file
        self.lines: list[str] = []
        self._fresh: queue.Queue[str | None] = queue.Queue()
        self._seen: dict[int, psutil.Process] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.process = subprocess.Popen(
            [FOREBAY, "serve", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
        )
        self._reader.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            self._fresh.put(line)
        self._fresh.put(None)

    def wait_for(self, pattern: str, timeout_s: float = START_S) -> str:
        """The first line that matches; fails when the process ends or time runs out first."""
        give_up = time.monotonic() + timeout_s
        while (left := give_up - time.monotonic()) > 0:
            try:
                line = self._fresh.get(timeout=min(left, 1.0))
            except queue.Empty:
                self.remember_family()
                continue
            if line is None:
                break
            if re.search(pattern, line):
                self.remember_family()
                return line
        raise AssertionError(f"never printed {pattern!r}:\n" + "\n".join(self.lines[-40:]))

    def remember_family(self) -> None:
        """Note the processes that it is made of now, to look for them after its end."""
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self._seen[child.pid] = child
        except psutil.NoSuchProcess:
            return

    def interrupt(self, timeout_s: float = 90.0, by: int = signal.SIGINT) -> int:
        """Ctrl-C (or another signal), unless it has ended, and the exit code."""
        if self.process.poll() is not None:
            return self.process.returncode
        self.remember_family()
        self.process.send_signal(by)
        return self.process.wait(timeout=timeout_s)

    def ports_are_free(self) -> bool:
        return port_is_free(self.port) and port_is_free(self.metrics_port)

    def leftovers(self) -> list[str]:
        """Processes of the family that still run."""
        _, alive = psutil.wait_procs(list(self._seen.values()), timeout=3)
        return [f"{p.pid} {' '.join(p.cmdline())[:80]}" for p in alive if p.is_running()]

    def end(self) -> None:
        """End whatever a failed test left, by id."""
        if self.process.poll() is None:
            self.process.kill()
        for process in self._seen.values():
            if process.is_running():
                process.kill()
        self.process.wait(timeout=30)
        self._reader.join(timeout=30)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(file: Path, folder: Path, **server: Any) -> Iterator[ServingProcess]:
    """A `forebay serve` that is ready; it must stop cleanly and leave nothing."""
    with started(file, folder, **server) as serving:
        serving.wait_for("Ctrl-C drains")
        yield serving
        assert serving.interrupt() == 0, "\n".join(serving.lines[-40:])
        assert serving.leftovers() == []


@contextmanager
def started(file: Path, folder: Path, **server: Any) -> Iterator[ServingProcess]:
    """A `forebay serve` that has just begun; whatever is left of it after the block is killed."""
    serving = ServingProcess(file, folder, **server)
    try:
        yield serving
    finally:
        serving.end()


def openai_client(serving: ServingProcess) -> openai.OpenAI:
    """OpenAI's own client of a service, without retries."""
    return openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0)
