"""`forebay check` and `forebay init`: the service file, before anything is started."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from forebay.spec.files import SpecError

DEFAULT_FILE = Path("forebay.yaml")


def check(
    file: Annotated[Path, typer.Argument(help="Service file.")] = DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Read a service file strictly and say what it comes down to. Starts nothing.

    Every fault is named with its line, field and a way out (exit code 2). A warning is no fault.

    Example: forebay check forebay.yaml
    """
    from forebay.spec.files import SpecError
    from forebay.spec.service import as_json as spec_as_json
    from forebay.spec.service import load_service, summarize
    from forebay.spec.service.doubts import doubts

    try:
        spec = load_service(file)
    except SpecError as error:
        _print_problems(error, as_json)
        raise typer.Exit(Exit.INPUT_IS_WRONG) from None
    warnings = list(doubts(spec, time.time()))
    if as_json:
        found = {"ok": True, "file": str(file), "warnings": warnings, **spec_as_json(spec)}
        _print_json(found)
        return
    typer.echo(f"{file} is fine")
    warn(warnings)
    for subject, words in summarize(spec).items():
        typer.echo(f"  {subject:<10} {words}")


def warn(warnings: Iterable[str]) -> None:
    """Say what is no fault and yet hardly meant, where faults are said."""
    for text in warnings:
        typer.echo(f"warning: {text}", err=True)


def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = DEFAULT_FILE,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented starter file: every field with its unit, default and reason.

    Example: forebay init forebay.yaml
    """
    from forebay.spec.service import starter_text

    if path.exists() and not force:
        typer.echo(f"{path} exists; --force overwrites it", err=True)
        raise typer.Exit(Exit.INPUT_IS_WRONG)
    try:
        path.write_text(starter_text(str(path)), "utf-8")
    except OSError as error:
        typer.echo(f"{path} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(Exit.ENVIRONMENT_FAILED) from None
    typer.echo(f"wrote {path}; next: forebay check {path}")


def _print_problems(error: "SpecError", as_json: bool) -> None:
    if as_json:
        from dataclasses import asdict

        _print_json({"ok": False, "problems": [asdict(problem) for problem in error.problems]})
        return
    for problem in error.problems:
        typer.echo(str(problem), err=True)
    count = len(error.problems)
    typer.echo(f"{count} {'problem' if count == 1 else 'problems'}", err=True)


def _print_json(content: dict[str, object]) -> None:
    import json

    typer.echo(json.dumps(content, indent=2))
