"""The servers that are compared, each started alike, on the same model and engine arguments.

Every server runs at nice 0. The model of every server computes on a core of its own and everything
else of it on the others, as Forebay arranges by itself. vLLM's own server runs the model inside its
engine core, as Forebay does (faster here than its default, a second process); stock Ray Serve LLM
lets nobody choose that. The client is scheduled in real time, the same for all, on the cores that
no model computes on: one that wakes on a model's core takes it from the model. Each server is
stopped by the ids of the processes that it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from forebay.serving.app import engine_dtype, model_threads
from forebay.serving.cluster import EnvironmentFailedError, check_port, cores
from forebay.spec.service import ServiceSpec, load_service

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples" / "demo.yaml"
LOGS = ROOT / "runs" / "logs"
START_S = 240
FREE_S = 60
MODEL = "demo"
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_IN_ENGINE_CORE = "vllm.v1.executor.uniproc_executor.UniProcExecutor"


@dataclass
class Server:
    """A running server: where it answers and which processes it is made of."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processes(self) -> list[psutil.Process]:
        """Every process of this server."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds used so far, by process name."""
        used: dict[str, float] = {}
        for process in self.processes():
            try:
                times = process.cpu_times()
                name = _name(process)
            except psutil.NoSuchProcess:
                continue
            used[name] = used.get(name, 0.0) + times.user + times.system
        return used

    def memory(self) -> dict[str, int]:
        """Resident bytes by "name pid"."""
        sizes: dict[str, int] = {}
        for process in self.processes():
            try:
                sizes[f"{_name(process)} {process.pid}"] = process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return sizes


def _name(process: psutil.Process) -> str:
    command = process.cmdline()
    title = command[0] if command and command[0].startswith(("ray::", "VLLM")) else process.name()
    return title.split(".")[0][:40]


def spec() -> ServiceSpec:
    """The service file that every system is started from."""
    return load_service(DEMO)


def forebay(port: int = 8000, file: Path = DEMO) -> list[str]:
    """`forebay serve` on a file, unchanged."""
    return [str(Path(sys.executable).parent / "forebay"), "serve", str(file), "--port", str(port)]


def raw_vllm(port: int, *extra: str, own_process: bool = False) -> list[str]:
    """VLLM's own server with the demo file's engine arguments.

    The model runs inside the engine core, or as by default in a process of its own.
    """
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(spec().model.source_path), "--served-model-name", MODEL]
    command += ["--port", str(port), "--disable-uvicorn-access-log"]
    arguments = {
        **spec().model.engine_args,
        "dtype": engine_dtype(spec()),
        "kv_cache_memory_bytes": spec().hardware.kv_cache,
        "disable_log_stats": True,  # as Forebay sets it
        "distributed_executor_backend": None if own_process else _IN_ENGINE_CORE,
    }
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if value is None:
            continue
        if value is True:
            command.append(flag)
        elif value is False:
            command.append(flag.replace("--", "--no-", 1))
        else:
            command += [flag, str(value)]
    return [*command, *extra]


def stock_ray(port: int) -> list[str]:
    """Ray Serve LLM, direct streaming, as its documentation sets it up."""
    return [sys.executable, str(ROOT / "benchmarks" / "stock_ray.py"), str(DEMO), str(port)]


@contextmanager
def running(
    name: str,
    command: list[str],
    port: int,
    *,
    model_cores: int | None = None,
    source: Path = ROOT / "src",
) -> Iterator[Server]:
    """Start a server, wait until it answers, stop it and everything it started.

    Args:
        name: names its log.
        command: starts it.
        port: where it will answer.
        model_cores: threads of the model, which then goes wherever the system puts it, as when
            anybody starts it. Without: as in the demo, on cores of its own.
        source: the state of Forebay's code that it runs.

    Raises:
        RuntimeError: it ended or was not ready in time; its log is named.
    """
    check_port("127.0.0.1", port, "port")  # or an older server would be measured
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    for number in (signal.SIGTERM, signal.SIGHUP):  # `timeout`, a closed terminal
        signal.signal(number, _end)
    env = {**os.environ, "RAY_worker_niceness": "0"}  # as vLLM's own server: nice 0
    env["OMP_NUM_THREADS"] = str(model_cores or model_threads(spec()))
    env |= {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    paths = (str(source), os.environ.get("PYTHONPATH"))
    env["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=ROOT, env=env, start_new_session=True
        )
    server = Server(name, port, process)
    family: list[psutil.Process] = []
    try:
        _wait_until_ready(server, log)
        server.notes["ready_s"] = round(time.monotonic() - started, 1)
        family = server.processes()
        if model_cores is None:
            cores.separate(family, model_threads(spec()))
        yield server
    finally:
        with undisturbed():
            _stop(server, family)


def _stop(server: Server, family: list[psutil.Process]) -> None:
    """Stop it and everything it started, what has left its tree since it was ready included."""
    family = list({p.pid: p for p in [*family, *server.processes()]}.values())
    server.process.send_signal(signal.SIGINT)
    try:
        server.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        server.process.kill()
    _, left = psutil.wait_procs([p for p in family if p.is_running()], timeout=10)
    for survivor in [*left, *_holders(server.port)]:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    _wait_until_free(server.port)


def _end(number: int, _frame: object) -> None:
    """Leave nothing behind either, and unlike Ctrl-C end more than the load that is offered."""
    sys.exit(128 + number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and the like: an impatient second one would leave what is not stopped yet."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _ENDINGS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _holders(port: int) -> list[psutil.Process]:
    """Who still listens: stock Ray hands its HAProxy on from worker to worker, to an orphan."""
    listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
    return [psutil.Process(c.pid) for c in listening if c.laddr[1:] == (port,) and c.pid]


def _wait_until_ready(server: Server, log: Path) -> None:
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up:
        if server.process.poll() is not None:
            raise RuntimeError(f"{server.name} ended while starting; see {log}")
        answer = _status(f"{server.url}/v1/models")
        # With keys it is 401, also while there is no replica; for its health nobody needs one.
        if answer == 200 or (answer == 401 and _status(f"{server.url}/health") == 200):
            return
        time.sleep(0.5)
    raise RuntimeError(f"{server.name} was not ready within {START_S} s; see {log}")


def _status(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, OSError):
        return None


def _wait_until_free(port: int) -> None:
    """Stock Ray's HAProxy daemon belongs to no process of ours and lets the port go seconds later.

    Raises:
        RuntimeError: it did not.
    """
    give_up = time.monotonic() + FREE_S
    while time.monotonic() < give_up:
        try:
            check_port("127.0.0.1", port, "port")
        except EnvironmentFailedError:
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"port {port} was still held {FREE_S} s after its server was stopped")
