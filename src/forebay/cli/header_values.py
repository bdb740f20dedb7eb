"""Values of headers that a user gives, which may be secrets: none is repeated in a message."""

from __future__ import annotations

import os

from forebay.cli.exits import refuse


def sendable_or_exit(what: str, value: str) -> str:
    """The value without blanks around it; exits with 2 where no header may have it.

    Raises:
        typer.Exit: it may not.
    """
    value = value.strip()
    if not all(" " <= character <= "\xff" and character != "\x7f" for character in value):
        problem = f"{what} holds a line break or another character that no header may have"
        refuse(str(problem))
    return value


def key_or_exit(variable: str) -> str | None:
    """The API key in an environment variable; None where it holds none.

    Raises:
        typer.Exit: it holds what cannot be sent.
    """
    key = os.environ.get(variable, "").strip()
    return sendable_or_exit(f"the variable {variable}", key) if key else None
