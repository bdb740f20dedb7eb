"""The `forebay` command: a thin registry of the commands in the sibling modules.

Those import what they need when they are called, so that `forebay --help` stays under half a
second and loads neither ray nor torch.
"""

from typing import Annotated

import typer

from forebay import __version__
from forebay.cli.check import check, init
from forebay.cli.compare import compare
from forebay.cli.demo import demo
from forebay.cli.keys import keys
from forebay.cli.load import load, workloads
from forebay.cli.mock import mock
from forebay.cli.record import record
from forebay.cli.scale import scale
from forebay.cli.serve import serve
from forebay.cli.top import top

app = typer.Typer(
    name="forebay",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich doubles the time that --help takes
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"forebay {__version__}")
        raise typer.Exit


@app.callback()
def forebay(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Serve a language model on vLLM, admit what it can carry in time, and prove it beforehand.

    Example: forebay init && forebay check forebay.yaml
    """


app.command()(check)
app.command()(init)
app.command()(serve)
app.command()(scale)
app.command()(top)
app.command()(demo)
app.command()(load)
app.command()(workloads)
app.command()(compare)
app.command()(mock)
app.add_typer(keys, name="keys")
app.add_typer(record, name="record")


def main() -> None:
    """Entry point of the `forebay` script."""
    app()
