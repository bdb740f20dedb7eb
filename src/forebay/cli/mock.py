"""`forebay mock`: a server of known times, to try `forebay load` on and to test a client with."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from forebay.mock import MockSpec, Pulse

_T = TypeVar("_T")
_EXAMPLE_TOKENS = 16
# Fields of the spec that are options here, for errors to name what was typed.
_OPTIONS = {"faults": "fault"} | {
    name: name.replace("_", "-")
    for name in ("slots", "max_queued", "seed", "max_model_len", "port", "cores")
}


def mock(
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8100,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    ttft: Annotated[
        str, typer.Option(help="To the first token: 200ms, or lognormal:200ms/800ms (p50/p99).")
    ] = "50ms",
    itl: Annotated[str, typer.Option(help="From each token to the next, as --ttft.")] = "10ms",
    slots: Annotated[
        int | None, typer.Option(help="Requests that run at once; others wait in order.")
    ] = None,
    max_queued: Annotated[
        int | None, typer.Option(help="Requests that may wait; beyond, 429.")
    ] = None,
    retry_after: Annotated[str, typer.Option(help="What such a 429 asks for.")] = "1s",
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="FAULT [SHARE%] [from TIME] [for TIME], repeatable: 'cut=3 5%', 'stall from 3s "
            "for 2s'. Faults: stall, drop, 429, 500, 503, malformed, hang, cut, error-in-stream, "
            "chunk, no-done, split. A request's X-Mock header forces one."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    model: Annotated[str, typer.Option(help="Name in the answers; requests may use any.")] = "mock",
    max_model_len: Annotated[int, typer.Option(help="Tokens one request may ask for.")] = 131_072,
    log: Annotated[
        Path | None, typer.Option(help="Write when each token was due and written; JSON lines.")
    ] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Ask for real-time scheduling.")
    ] = False,
    cores: Annotated[str, typer.Option(help="CPU cores to run on, as in 0 or 0,1.")] = "",
) -> None:
    """Answer like an OpenAI-compatible server, at known times and without a model; Ctrl-C ends it.

    Serves completions, chat completions, models, health, metrics and tokenize. One process sends
    tens of thousands of tokens a second. Exit code 2: an option is wrong; 3: the port, the cores
    or the log cannot be had.

    Example: forebay mock --ttft 200ms --itl 10ms --slots 32 --fault '503 1%'
    """
    from forebay.mock import parse_law, parse_rule, seconds

    raise typer.Exit(
        run(
            _spec(
                ttft=_read("--ttft", parse_law, ttft),
                itl=_read("--itl", parse_law, itl),
                slots=slots,
                max_queued=max_queued,
                retry_after_s=_read("--retry-after", seconds, retry_after),
                faults=tuple(_read("--fault", parse_rule, words) for words in fault or ()),
                seed=seed,
                model=model,
                max_model_len=max_model_len,
                host=host,
                port=port,
                log=None if log is None else str(log),
                realtime=realtime,
                cores=_read("--cores", _cores, cores),
            )
        )
    )


def run(spec: MockSpec) -> Exit:
    """Serve until Ctrl-C; returns the command's exit code."""
    from forebay.mock import run as serve

    live = _LiveLine()
    try:
        summary = serve(spec, lambda url: _introduce(spec, url), live.show)
    except OSError as error:
        typer.echo(f"forebay mock: {_why(error, spec)}", err=True)
        return Exit.ENVIRONMENT_FAILED
    _report(spec, summary)
    return Exit.FINE


def _read(option: str, parse: Callable[[str], _T], words: str) -> _T:
    try:
        return parse(words)
    except ValueError as error:
        typer.echo(f"{option}: {error}", err=True)
        raise typer.Exit(Exit.INPUT_IS_WRONG) from None


def _spec(**values: Any) -> MockSpec:
    from forebay.mock import MockSpec

    try:
        return MockSpec(**values)
    except ValueError as error:
        known = "|".join(_OPTIONS)
        said = re.sub(rf"\b({known})\b", lambda name: f"--{_OPTIONS[name[1]]}", str(error))
        typer.echo(said, err=True)
        raise typer.Exit(Exit.INPUT_IS_WRONG) from None


def _cores(words: str) -> tuple[int, ...]:
    try:
        return tuple(int(core) for core in words.split(",")) if words else ()
    except ValueError:
        raise ValueError(f"{words!r} names no cores; write 0 or 0,1") from None


def _why(error: OSError, spec: MockSpec) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return f"port {spec.port} is taken; choose another with --port, or 0 for a free one"
    return str(error)


def _introduce(spec: MockSpec, url: str) -> None:
    capacity = spec.capacity_per_s(_EXAMPLE_TOKENS)
    most = "" if capacity is None else f"; {spec.slots} slots carry {capacity:.4g} requests/s of"
    most += "" if capacity is None else f" {_EXAMPLE_TOKENS} tokens"
    typer.echo(
        f"{spec.model} answers at {url}: first token after {spec.ttft}, then one every {spec.itl}"
        f"{most}. Try:\n\n"
        f"  curl -N {url}/v1/completions -H 'Content-Type: application/json' \\\n"
        f'    -d \'{{"model": "{spec.model}", "prompt": "Hello", "max_tokens": {_EXAMPLE_TOKENS}, '
        f'"stream": true}}\'\n\nCtrl-C ends it.\n'
    )


class _LiveLine:
    """One line a second, in place on a terminal."""

    def __init__(self) -> None:
        self._tokens = 0
        self._at = time.monotonic()

    def show(self, pulse: Pulse) -> None:
        """Prints the server's pulse."""
        now = time.monotonic()
        rate = (pulse.tokens - self._tokens) / (now - self._at)
        self._tokens, self._at = pulse.tokens, now
        line = (
            f"requests {pulse.requests}  running {pulse.running}  queued {pulse.queued}  "
            f"tokens/s {rate:.0f}"
        )
        if sys.stdout.isatty():
            sys.stdout.write("\r" + line.ljust(78))
            sys.stdout.flush()
        else:
            typer.echo(line)


def _report(spec: MockSpec, summary: dict[str, Any]) -> None:
    typer.echo(f"\nstopped: {summary['requests']} requests, {summary['tokens']} tokens")
    if summary["late_p50_s"] is not None:
        p50, p99, most = (summary[f"late_{name}_s"] * 1e3 for name in ("p50", "p99", "max"))
        typer.echo(f"written after due: p50 {p50:.2f} ms, p99 {p99:.2f} ms, at most {most:.2f} ms")
    for name, count in summary["faults"].items():
        typer.echo(f"  {count} x {name}")
    if spec.realtime and not summary["realtime"]:
        typer.echo(f"not real-time: {summary['realtime_reason']}")
    if spec.log:
        typer.echo(f"log: {spec.log}")
