"""`forebay scale`: a floor under a running service, in place; or its policy tried on a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.exits import fail, refuse

if TYPE_CHECKING:
    from forebay.spec.service import ServiceSpec

_LONGEST = timedelta(days=31)


def scale(
    file: Annotated[Path, typer.Argument(help="The service's file.")],
    least: Annotated[
        int | None, typer.Option("--min", min=0, help="Fewest replicas; 0 ends a floor.")
    ] = None,
    until: Annotated[
        str, typer.Option(help="When it ends: a time with its offset, or a duration such as 2h.")
    ] = "1h",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster; the file's, or the service's on this machine.")
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Instead: a run's folder of `forebay load`, whose recorded demand is given to the "
            "policy of this file.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The replay's page; default scaling-replay.html in the run's folder."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the replay's result as JSON.")
    ] = False,
) -> None:
    """Keep at least so many replicas of a running service until a time; nothing restarts.

    With --replay, try the file's scaling on a recorded run instead: no service is needed.

    Exit code 2: the file, the number, the time or the run is wrong. 3: no such service runs.

    Examples: forebay scale chat.yaml --min 24 --until 2026-12-01T12:00+01:00;
    forebay scale chat.yaml --replay runs/launch
    """
    if (least is None) == (replay is None):
        refuse("say either --min or --replay" if least is None else "--min or --replay, not both")
    spec = _spec_or_exit(file)
    if replay is not None:
        from forebay.cli.scale_replay import replay_run

        replay_run(spec, replay, output, as_json)
        return
    assert least is not None
    _set_floor(spec, least, until, address)


def _spec_or_exit(file: Path) -> ServiceSpec:
    from forebay.spec.files import SpecError
    from forebay.spec.service import load_service

    try:
        spec = load_service(file)
    except SpecError as error:
        refuse(str(error))
    if not spec.scaling.min < spec.scaling.max:
        refuse(
            f"{file}: scaling.min and scaling.max are both {spec.scaling.min}: the size is fixed; "
            "raise scaling.max and serve it again"
        )
    return spec


def _set_floor(spec: ServiceSpec, least: int, until: str, address: str | None) -> None:
    from importlib.util import find_spec

    from forebay.serving.control import NoServiceError, set_floor

    if find_spec("ray") is None:
        fail("--min needs Ray, which is not installed here: make setup")
    try:
        end = read_end(until, datetime.now(UTC))
    except ValueError as error:
        refuse(str(error))
    if least > spec.scaling.max:
        refuse(f"--min {least} is above scaling.max, {spec.scaling.max}")
    try:
        cluster = address or spec.server.ray_address
        set_floor(spec.name, spec.server.port, least, end.timestamp(), cluster)
    except NoServiceError as error:
        fail(str(error))
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
    else:
        if "T" not in text.upper() and " " not in text:  # 2026-12-01+01:00 reads as one o'clock
            raise ValueError(f"--until {text} has no time of day; write one as 2026-12-01T12:00Z")
    if end.tzinfo is None:
        raise ValueError(f"--until {text} has no offset; write a time such as 2026-12-01T12:00Z")
    if end <= now:
        raise ValueError(f"--until {text} is past")
    if end - now > _LONGEST:
        raise ValueError(f"--until {text} is more than a month away; use scaling.schedule")
    return end


def _seconds(text: str) -> float:
    from pydantic_core import PydanticCustomError

    from forebay.spec.files import parse_seconds

    try:
        return parse_seconds(text)
    except PydanticCustomError:
        raise ValueError(
            f"--until {text} is neither a time (2026-12-01T12:00Z) nor a duration (2h)"
        ) from None
