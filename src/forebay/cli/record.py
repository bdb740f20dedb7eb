"""`forebay record`: production traffic becomes a trace, and a trace a workload file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from forebay.cli.exits import Exit, fail, parsed_or_exit, refuse

if TYPE_CHECKING:
    from forebay.record import BlockSize, Fitted, LogTotals, ReadLine, Rules
    from forebay.wire import Target
    from forebay.workload import Row

record = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Record production traffic as a workload: its times, sizes and sharing, and not a word "
    "of it.",
)

_Output = Annotated[Path, typer.Option("--output", "-o", help="File to write; .gz packs it.")]
_Force = Annotated[bool, typer.Option("--force", help="Overwrite files.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_BlockTokens = Annotated[int, typer.Option(min=1, help="Tokens of a block that is hashed.")]
_BytesPerToken = Annotated[float, typer.Option(min=0.25, help="Of texts, where none are counted.")]


@record.command()
def logs(
    files: Annotated[list[str], typer.Argument(help="Logs; .gz is unpacked, - is stdin.")],
    output: _Output,
    format_name: Annotated[
        str, typer.Option("--format", help="openai, haproxy, nginx or forebay: see above.")
    ] = "openai",
    pattern: Annotated[
        str | None,
        typer.Option(
            help="Regular expression for an access log, with groups named time, prompt_tokens, "
            "output_tokens and, if you like, class, tenant, took."
        ),
    ] = None,
    keep_tenants: Annotated[
        bool, typer.Option("--keep-tenants", help="Write tenants as logged, not as pseudonyms.")
    ] = False,
    block_tokens: _BlockTokens = 512,
    bytes_per_token: _BytesPerToken = 4.0,
    force: _Force = False,
    as_json: _Json = False,
) -> None:
    """Turn request logs into a trace: when, how many tokens, what is shared, whose; no text.

    openai: JSON lines with a time, a request and a response with usage, as gateways, OpenAI's batch
    and stored completions write them. forebay: JSON lines with at, prompt_tokens, output_tokens,
    class, tenant. haproxy, nginx: access logs whose format holds token counts; given another, this
    prints the configuration for it.

    Exit code 2: more than 5 % of the lines cannot be read; 3: the trace cannot be written.

    Example: forebay record logs gateway-*.jsonl.gz --format openai --output trace.jsonl
    """
    read = _reader_or_exit(format_name, pattern)
    size = _size_or_exit(block_tokens, bytes_per_token)
    _keep_or_exit(output, force)
    rules = _rules(keep_tenants, size)
    totals = _logs_or_exit(files, read, rules, output, format_name, quiet=as_json)
    if as_json:
        typer.echo(json.dumps({"output": str(output), **totals.as_dict()}))
        return
    for line in _log_lines(totals):
        typer.echo(line)
    typer.echo(f"wrote {output}; next: forebay record fit {output} --output workload.yaml")


@record.command()
def proxy(
    to: Annotated[str, typer.Option("--to", help="Endpoint, such as http://localhost:8000.")],
    output: _Output,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8200,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    block_tokens: _BlockTokens = 512,
    bytes_per_token: _BytesPerToken = 4.0,
    grace: Annotated[
        str, typer.Option(help="After Ctrl-C, what answers on their way may take.")
    ] = "30s",
    force: _Force = False,
    as_json: _Json = False,
) -> None:
    """Stand before an OpenAI-compatible endpoint, pass everything on unchanged, and record it.

    Bodies and streams pass byte by byte. A row holds when a request came, its tokens (by the
    server's own usage where it sends one, else estimated and marked), its class, hashes of its
    prompt's leading blocks and a pseudonym of its key, under a secret that is never written. Texts
    and keys are not kept. Ctrl-C ends it once the answers on their way are finished; a second one
    at once.

    Exit code 2: an option is wrong; 3: the port or the file cannot be had, or the file not written
    to the end.

    Example: forebay record proxy --to http://localhost:8000 --port 8200 --output trace.jsonl
    """
    from forebay.cli.record_progress import LiveLine, introduce, proxy_lines
    from forebay.record import ProxyPlan, run
    from forebay.spec.files import parse_seconds

    _keep_or_exit(output, force)
    plan = ProxyPlan(
        target=_target_or_exit(to),
        output=output,
        host=host,
        port=port,
        size=_size_or_exit(block_tokens, bytes_per_token),
        grace_s=parsed_or_exit("--grace", parse_seconds, grace),
    )
    try:
        summary = run(plan, lambda url: introduce(plan, url, as_json), LiveLine(as_json).show)
    except OSError as error:
        fail(f"{output} or port {port}: {error.strerror or error}")
    if as_json:
        typer.echo(json.dumps({"summary": summary}))
    else:
        for line in proxy_lines(plan, summary):
            typer.echo(line)
    raise typer.Exit(Exit.ENVIRONMENT_FAILED if summary["fault"] else Exit.FINE)


@record.command()
def fit(
    trace: Annotated[str, typer.Argument(help="Trace; .gz is unpacked, - is stdin.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Workload file to write.")],
    format_name: Annotated[
        str, typer.Option("--format", help="forebay, azure, burstgpt or mooncake.")
    ] = "forebay",
    seed: Annotated[int, typer.Option(min=0, help="Of the fit's own draws.")] = 0,
    force: _Force = False,
    as_json: _Json = False,
) -> None:
    """Fit a workload of laws to a trace, and say figure by figure how well it stands for it.

    Fitted are the rate over time, the bursts within it, lengths, shared prefixes, classes and
    tenants; conversations are not. What was fitted is played once and held against the recording.
    A workload of laws can be scaled and changed; where it does not fit, replay the trace itself.

    Exit code 1: a figure does not fit (the file is written all the same); 2: an input is wrong.

    Example: forebay record fit trace.jsonl --output workload.yaml
    """
    rows = _rows_or_exit(trace, format_name, as_json)
    fitted = _fit_or_exit(rows, output, trace, seed, force)
    if as_json:
        typer.echo(json.dumps(fitted.as_dict(), allow_nan=False))
    else:
        from forebay.cli.record_progress import print_fit

        print_fit(fitted, trace, format_name)
    fits = fitted.quality.verdict != "does not fit"
    raise typer.Exit(Exit.FINE if fits else Exit.CHECK_SAYS_NO)


def _reader_or_exit(format_name: str, pattern: str | None) -> ReadLine:
    from forebay.record import line_reader

    try:
        return line_reader(format_name, pattern)
    except ValueError as error:
        refuse(f"{'--format' if pattern is None else '--pattern'}: {error}")


def _size_or_exit(block_tokens: int, bytes_per_token: float) -> BlockSize:
    from forebay.record import BlockSize

    try:
        return BlockSize(block_tokens, bytes_per_token)
    except ValueError as error:
        refuse(str(error))


def _keep_or_exit(output: Path, force: bool) -> None:
    if output.exists() and not force:
        refuse(f"{output} exists; --force overwrites it")


def _rules(keep_tenants: bool, size: BlockSize) -> Rules:
    from forebay.record import Pseudonyms, Rules

    return Rules(Pseudonyms(), keep_tenants, size)


def _logs_or_exit(
    files: list[str],
    read: ReadLine,
    rules: Rules,
    output: Path,
    format_name: str,
    *,
    quiet: bool,
) -> LogTotals:
    from forebay.cli.record_progress import reading
    from forebay.record import (
        CONFIGURATION,
        UnreadableFileError,
        UnreadableLogError,
        record_logs,
        total_bytes,
    )

    try:
        with reading(total_bytes(files), quiet=quiet) as tell:
            return record_logs(files, read, rules, output, tell)
    except UnreadableLogError as error:
        for line in error.totals.first_unreadable:
            typer.echo(str(line), err=True)
        expected = CONFIGURATION.get(format_name, "")
        refuse(f"{error}; nothing was written. Is it another format?\n{expected}".rstrip())
    except UnreadableFileError as error:
        refuse(str(error))
    except OSError as error:
        _cannot(error, output)


def _log_lines(totals: LogTotals) -> list[str]:
    values = totals.as_dict()
    said = [f"{totals.recorded} requests from {values['since']} to {values['until']}"]
    if totals.estimated:
        said.append(f"{totals.estimated} of them with estimated tokens, since none were counted")
    if totals.unanswered:
        said.append(f"{totals.unanswered} of them without tokens: kept, and left out by a replay")
    if totals.unreadable:
        said.append(f"{totals.unreadable} of {totals.lines} lines cannot be read, the first:")
        said += [f"  {line}" for line in totals.first_unreadable]
    return said


def _target_or_exit(url: str) -> Target:
    from forebay.record import target_of

    try:
        return target_of(url)
    except ValueError as error:
        refuse(f"--to: {error}")


def _rows_or_exit(trace: str, format_name: str, quiet: bool) -> list[Row]:
    from forebay.cli.record_progress import reading
    from forebay.record import read_rows, total_bytes

    try:
        with reading(total_bytes([trace]), quiet=quiet) as tell:
            return read_rows(trace, format_name, lambda place: tell(place, 0))
    except ValueError as error:
        refuse(f"{trace}: {error}")
    except OSError as error:
        refuse(f"{trace} cannot be read: {_why(error)}")


def _fit_or_exit(rows: list[Row], output: Path, trace: str, seed: int, force: bool) -> Fitted:
    from forebay.record import WouldOverwriteError, fit_trace

    source = f"Fitted by forebay record fit to {len(rows)} requests of {Path(trace).name}."
    try:
        return fit_trace(rows, output, source, seed=seed, overwrite=force)
    except WouldOverwriteError as error:
        refuse(f"{error}; --force overwrites it")
    except ValueError as error:
        refuse(f"{trace}: {error}; replay the trace itself instead")
    except OSError as error:
        fail(f"{output} cannot be written: {_why(error)}")


def _cannot(error: OSError, output: Path) -> NoReturn:
    """A log that cannot be read is the user's; a trace that cannot be written is not."""
    if error.filename is None or str(error.filename).startswith(str(output)):
        fail(f"{output} cannot be written: {_why(error)}")
    refuse(f"{error.filename} cannot be read: {_why(error)}")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
