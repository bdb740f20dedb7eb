"""`forebay scale`: a floor under a running service, in place."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from forebay.cli.exits import Exit

_LONGEST = timedelta(days=31)


def scale(
    file: Annotated[Path, typer.Argument(help="The service's file.")],
    least: Annotated[int, typer.Option("--min", min=0, help="Fewest replicas; 0 ends a floor.")],
    until: Annotated[
        str, typer.Option(help="When it ends: a time with its offset, or a duration such as 2h.")
    ] = "1h",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; the file's, or the one on this machine.")
    ] = None,
) -> None:
    """Keep at least so many replicas of a running service until a time; nothing restarts.

    Exit code 2: the file, the number or the time is wrong. 3: no such service runs.

    Example: forebay scale chat.yaml --min 24 --until 2026-12-01T12:00+01:00
    """
    from forebay.spec.loading import load_service
    from forebay.spec.problems import SpecError

    try:
        spec = load_service(file)
        end = read_end(until, datetime.now(UTC))
    except (SpecError, ValueError) as error:
        typer.echo(f"forebay: {error}", err=True)
        raise typer.Exit(Exit.INPUT_IS_WRONG) from None
    if not spec.scaling.min < spec.scaling.max:
        typer.echo(
            f"forebay: {file}: scaling.min and scaling.max are both {spec.scaling.min}: the size "
            "is fixed; raise scaling.max and serve it again",
            err=True,
        )
        raise typer.Exit(Exit.INPUT_IS_WRONG)
    if least > spec.scaling.max:
        typer.echo(f"forebay: --min {least} is above scaling.max, {spec.scaling.max}", err=True)
        raise typer.Exit(Exit.INPUT_IS_WRONG)
    from forebay.serving.scaling_log import NoServiceError, set_floor

    try:
        set_floor(spec.name, least, end.timestamp(), address or spec.server.ray_address)
    except NoServiceError as error:
        typer.echo(f"forebay: {error}", err=True)
        raise typer.Exit(Exit.ENVIRONMENT_FAILED) from None
    if least:
        typer.echo(f"{spec.name}: at least {least} replicas until {end:%Y-%m-%d %H:%M:%S %Z}")
    else:
        typer.echo(f"{spec.name}: no floor beyond its file's")


def read_end(text: str, now: datetime) -> datetime:
    """The time in "2026-12-01T12:00Z", or the one after "2h".

    Raises:
        ValueError: it is neither, has no offset, is past, or more than a month away.
    """
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        end = now + timedelta(seconds=_seconds(text))
    if end.tzinfo is None:
        raise ValueError(f"--until {text} has no offset; write {text}Z or {text}+01:00")
    if end <= now:
        raise ValueError(f"--until {text} is past")
    if end - now > _LONGEST:
        raise ValueError(f"--until {text} is more than a month away; use scaling.schedule")
    return end


def _seconds(text: str) -> float:
    from pydantic_core import PydanticCustomError

    from forebay.spec.units import parse_seconds

    try:
        return parse_seconds(text)
    except PydanticCustomError:
        raise ValueError(
            f"--until {text} is neither a time (2026-12-01T12:00Z) nor a duration (2h)"
        ) from None
