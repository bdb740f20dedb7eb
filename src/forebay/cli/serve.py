"""`forebay serve`: the service, from a file, until Ctrl-C."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.check import DEFAULT_FILE, warn
from forebay.cli.exits import Exit, refuse
from forebay.cli.service import ended, service
from forebay.cli.specs import load_or_exit

if TYPE_CHECKING:
    from forebay.serving.cluster import Platform
    from forebay.serving.control import LiveLine
    from forebay.spec.service import ServiceSpec

_LIVE_S = 1.0
_LOG_S = 10.0  # between two live lines where the output is not a terminal


def serve(
    file: Annotated[Path, typer.Argument(help="Service file.")] = DEFAULT_FILE,
    port: Annotated[int | None, typer.Option(help="Instead of server.port.")] = None,
) -> None:
    """Start the service that a file describes; Ctrl-C drains and stops it.

    A second Ctrl-C stops at once. Exit code 2: file or port are wrong; 3: it cannot run here.

    Example: forebay serve forebay.yaml
    """
    from forebay.spec.service.doubts import doubts

    spec = load_or_exit(file)
    warn(doubts(spec, time.time()))
    raise typer.Exit(run(spec if port is None else _at_port_or_exit(spec, port)))


def _at_port_or_exit(spec: ServiceSpec, port: int) -> ServiceSpec:
    """The service at another port, which is judged as the file's own would be."""
    from pydantic import ValidationError

    from forebay.spec.files import as_fault
    from forebay.spec.service.service_spec import ServerSpec

    if port == spec.server.metrics_port:
        refuse(f"--port: {port} is server.metrics_port too; write another port")
    try:
        server = ServerSpec.model_validate({**spec.server.model_dump(), "port": port})
    except ValidationError as error:
        refuse(f"--port: {as_fault(error.errors()[0], ServerSpec).message}")
    return spec.model_copy(update={"server": server})


def run(spec: ServiceSpec) -> Exit:
    """Serve until interrupted; returns the command's exit code."""

    def serve_it() -> Exit:
        with service(spec) as platform:
            _introduce(platform)
            _watch(platform)
        return Exit.FINE

    return ended(serve_it, _say, interrupted=Exit.FINE)


def _introduce(platform: Platform) -> None:
    model = platform.spec.model.id
    metrics = "".join(platform.metrics_pages) or "the metrics ports of the cluster's nodes"
    key = "" if platform.spec.tenants is None else "    -H 'Authorization: Bearer KEY' \\\n"
    typer.echo(
        f"\n{model} answers at {platform.url}; metrics at {metrics}. Try:\n\n"
        f"  curl {platform.url}/chat/completions -H 'Content-Type: application/json' \\\n{key}"
        f'    -d \'{{"model": "{model}", "messages": [{{"role": "user", '
        f'"content": "Hello"}}]}}\'\n\nCtrl-C drains and stops.\n'
    )
    if platform.spec.tenants is None:
        from forebay.spec.service import tenants_line

        typer.echo(f"tenants: {tenants_line(platform.spec)}\n")


def _watch(platform: Platform) -> None:
    """Show the live line until Ctrl-C, then drain."""
    from forebay.serving.cluster import InTime
    from forebay.serving.control import LiveLine

    live = LiveLine()
    state = InTime(lambda: (platform.fleet(), platform.last_decision()))
    try:
        while True:
            _show(live, state.answer())
            time.sleep(_LIVE_S if sys.stdout.isatty() else _LOG_S)
    except KeyboardInterrupt:
        _say(f"\ndraining, {platform.spec.server.drain:.0f} s at most (Ctrl-C: at once)")
        if not platform.drain(say=_say):
            _say("some requests may still be running")


def _show(live: LiveLine, state: tuple[list[dict[str, Any]], dict[str, Any] | None] | None) -> None:
    """Print the fleet and its last decision; `state` is None where nobody has told them."""
    if state is None:
        line = "no word from the replicas"
    else:
        fleet, decision = state
        line = live.line(fleet, time.monotonic(), decision)
    if sys.stdout.isatty():
        width = 110
        with contextlib.suppress(OSError):
            sys.stdout.write("\r" + line[:width].ljust(width))
            sys.stdout.flush()
    else:
        _say(line)


def _say(line: str) -> None:
    """Print a line, or not: a terminal that was closed takes none, and requests still run."""
    with contextlib.suppress(OSError):
        typer.echo(line)
