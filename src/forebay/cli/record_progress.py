"""What `forebay record` shows while it works, and at its end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from forebay.record import Fitted, ProxyPlan, Pulse

_WIDTH = 100  # the table's, also where the output is no terminal
_STYLES = {"fits": "green", "roughly": "yellow", "does not fit": "red"}
_LONGEST_LINE = 99


@contextmanager
def reading(size: int | None, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar that is moved by (bytes, lines) read; on a terminal only, and not when quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(highlight=False, stderr=True)
    if quiet or not console.is_terminal:
        yield lambda place, lines: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(30), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=size)

        def tell(place: int, lines: int) -> None:
            bar.update(task, completed=place, description=f"{lines or ''} lines".strip())

        yield tell


def introduce(plan: ProxyPlan, url: str, as_json: bool) -> None:
    """Where the proxy is, and what to do."""
    if as_json:
        typer.echo(json.dumps({"url": url}))
        return
    typer.echo(
        f"recording what passes from {url} to {plan.target.url}, into {plan.output}; point clients "
        f"at\n\n  OPENAI_BASE_URL={url}/v1\n\nCtrl-C ends it.\n"
    )


class LiveLine:
    """One line a second, in place on a terminal; elsewhere only news of trouble."""

    def __init__(self, quiet: bool) -> None:
        self._in_place = sys.stdout.isatty() and not quiet
        self._told = ("", "")

    def show(self, pulse: Pulse) -> None:
        """Shows the proxy's pulse."""
        if self._told != (pulse.fault, pulse.trouble):
            self._tell(pulse)
        if self._in_place:
            totals = pulse.totals
            line = (
                f"{totals.outcomes.total()} requests, {pulse.in_flight} in flight, "
                f"{totals.prompt_tokens} tokens in, {totals.output_tokens} out"
            )
            sys.stdout.write("\r" + line.ljust(_LONGEST_LINE))
            sys.stdout.flush()

    def _tell(self, pulse: Pulse) -> None:
        self._told = (pulse.fault, pulse.trouble)
        if pulse.fault:
            typer.echo(f"\nnothing is written any more: {pulse.fault}; traffic goes on", err=True)
        if pulse.trouble:
            typer.echo(f"\nthe endpoint could not be reached: {pulse.trouble}", err=True)


def proxy_lines(plan: ProxyPlan, summary: dict[str, Any]) -> Iterator[str]:
    """What was recorded."""
    outcomes = ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items())
    yield f"\n{summary['requests']} requests ({outcomes or 'none'}) in {plan.output}"
    if summary["with_estimates"]:
        yield (
            f"{summary['with_estimates']} with estimated tokens: the server sent no usage; clients "
            'ask for it in streams with "stream_options": {"include_usage": true}'
        )
    if summary["unreadable_bodies"]:
        yield f"{summary['unreadable_bodies']} could not be looked into: judged by their size"
    if summary["connections_out_of_sight"]:
        yield f"{summary['connections_out_of_sight']} connections could not be followed to the end"
    ratio = summary["bytes_per_token"]
    if ratio is not None and abs(ratio / plan.size.bytes_per_token - 1) > 0.2:
        yield (
            f"prompts had {ratio:g} bytes a token, not {plan.size.bytes_per_token:g}: with "
            f"--bytes-per-token {ratio:g} a block is the number of tokens that it says"
        )
    if summary["fault"]:
        yield f"the recording is incomplete: {summary['fault']}"


def print_fit(fitted: Fitted, trace: str, format_name: str) -> None:
    """What was fitted, how well, and what to do."""
    from rich.console import Console
    from rich.table import Table

    from forebay.record import COLUMNS, cells, verdict_lines, workload_lines

    console = Console(highlight=False, markup=False, width=_WIDTH)
    for line in workload_lines(fitted):
        console.print(line)
    quality = fitted.quality
    title = f"{quality.recorded.requests} requests recorded, {quality.fitted.requests} as fitted"
    table = Table(title=title)
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if 0 < place < len(COLUMNS) - 1 else "left")
    for figure in quality.figures:
        table.add_row(*cells(figure), style=_STYLES[figure.verdict])
    console.print(table)
    for line in verdict_lines(quality, trace, format_name):
        console.print(line)
    console.print(f"wrote {', '.join(map(str, fitted.files))}")
