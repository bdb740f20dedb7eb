"""Reading a service file for a command that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from forebay.spec.service import ServiceSpec


def load_or_exit(file: Path) -> ServiceSpec:
    """The service that the file describes; prints its problems and exits with 2 when it is wrong.

    Raises:
        typer.Exit: the file cannot be read, or says something that cannot be served.
    """
    from forebay.spec.loading import load_service
    from forebay.spec.problems import SpecError

    try:
        return load_service(file)
    except SpecError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(Exit.INPUT_IS_WRONG) from None
