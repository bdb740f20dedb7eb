"""The folder of a run: looked at before anything is measured for it, written when it was."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from forebay.cli.exits import refuse

if TYPE_CHECKING:
    from forebay.load.results import Measured


def writable_or_exit(output: Path | None) -> None:
    """Makes the folder; prints why and exits with 2 where it cannot be written.

    Raises:
        typer.Exit: it cannot.
    """
    import tempfile

    if output is None:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output).close()
    except OSError as error:
        refuse(f"--output: {output} cannot be written: {error.strerror}")


def written(measured: Measured, output: Path | None) -> Path | None:
    """Where the run was written; None where that failed: what it showed is told all the same."""
    from forebay.load.results import usual_folder

    folder = output or usual_folder(measured.run)
    try:
        measured.write(folder)
    except OSError as error:
        typer.echo(f"forebay: {folder} cannot be written: {error.strerror}", err=True)
        return None
    return folder
