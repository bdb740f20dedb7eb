"""Reading a service or workload file for a command that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from forebay.spec.files import SpecError
    from forebay.spec.service import ServiceSpec
    from forebay.spec.workload import WorkloadSpec


def load_or_exit(file: Path) -> ServiceSpec:
    """The service that the file describes; prints its problems and exits with 2 when it is wrong.

    Raises:
        typer.Exit: the file cannot be read, or says something that cannot be served.
    """
    from forebay.spec.files import SpecError
    from forebay.spec.service import load_service

    try:
        return load_service(file)
    except SpecError as error:
        raise _refused(error) from None


def workload_or_exit(source: str) -> WorkloadSpec:
    """A workload file, or one that is built in, by its name; see `load_or_exit`.

    Raises:
        typer.Exit: as there.
    """
    from forebay.spec.files import SpecError
    from forebay.spec.workload import load_workload

    try:
        return load_workload(source)
    except SpecError as error:
        raise _refused(error) from None


def _refused(error: SpecError) -> typer.Exit:
    for problem in error.problems:
        typer.echo(str(problem), err=True)
    return typer.Exit(Exit.INPUT_IS_WRONG)
