"""What a command's exit code means, the same for every command."""

from collections.abc import Callable
from enum import IntEnum
from typing import NoReturn, TypeVar

import typer

_T = TypeVar("_T")


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


def parsed_or_exit(option: str, parse: Callable[[str], _T], text: str) -> _T:
    """An option's value; refused with what is wrong and what to write.

    Raises:
        typer.Exit: it is none.
    """
    from pydantic_core import PydanticCustomError

    try:
        return parse(text)
    except PydanticCustomError as error:
        refuse(f"{option}: {error.message()}; {(error.context or {}).get('hint', '')}")


def _end(lines: tuple[str, ...], code: Exit) -> NoReturn:
    for line in lines:
        typer.echo(f"forebay: {line}", err=True)
    raise typer.Exit(code)
