"""What a command's exit code means, the same for every command."""

from enum import IntEnum
from typing import NoReturn

import typer


class Exit(IntEnum):
    """The four ways a command can end."""

    FINE = 0
    CHECK_SAYS_NO = 1  # a gate failed, NO-GO, an SLO was missed
    INPUT_IS_WRONG = 2
    ENVIRONMENT_FAILED = 3


def refuse(*lines: str) -> NoReturn:
    """Ends the command since its input is wrong.

    Raises:
        typer.Exit: always.
    """
    _end(lines, Exit.INPUT_IS_WRONG)


def fail(*lines: str) -> NoReturn:
    """Ends it since it cannot be done here.

    Raises:
        typer.Exit: always.
    """
    _end(lines, Exit.ENVIRONMENT_FAILED)


def _end(lines: tuple[str, ...], code: Exit) -> NoReturn:
    for line in lines:
        typer.echo(f"forebay: {line}", err=True)
    raise typer.Exit(code)
