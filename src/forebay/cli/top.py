"""`forebay top`: a running service, live in the terminal."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forebay.cli.exits import fail, refuse
from forebay.cli.header_values import key_or_exit

if TYPE_CHECKING:
    from rich.console import RenderableType

_TIMEOUT_S = 15.0  # the service itself waits for up to 11 s for its parts
_PATH = "/forebay/status"


def top(
    url: Annotated[str, typer.Argument(help="Address of the service.")] = "http://127.0.0.1:8000",
    every: Annotated[
        float, typer.Option(help="Seconds between two looks; replicas tell twice a second.", min=1)
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the status as JSON.")] = False,
    api_key_env: Annotated[
        str, typer.Option(help="Variable that holds the API key.")
    ] = "OPENAI_API_KEY",
) -> None:
    """Show a running service live: classes, replicas, tenants; Ctrl-C ends it.

    Exit code 2: the address is none; 3: the service does not answer, or refuses the key.

    Example: forebay top http://127.0.0.1:8000
    """
    address = _address_or_exit(url)
    key = key_or_exit(api_key_env)
    try:
        first = _status(address, key)
        if as_json:
            typer.echo(json.dumps(first, indent=2))
        elif once:
            _print_once(first)
        else:
            _watch(address, key, first, every)
    except (OSError, ValueError) as error:
        fail(f"{address} {_why(error, api_key_env, key)}")
    except KeyboardInterrupt:
        pass


def _address_or_exit(url: str) -> str:
    from forebay.wire import base_url

    try:
        return base_url(url) + _PATH
    except ValueError as error:
        refuse(str(error))


def _why(error: Exception, variable: str, key: str | None) -> str:
    """What is wrong with the service's answer, after its address; and what to do about a key."""
    status = getattr(error, "code", None)
    if status not in (401, 403):
        return f"does not answer as Forebay does: {error}"
    if key:
        return f"refuses the key in {variable} (HTTP {status}); --api-key-env names another"
    return (
        f"asks for a key (HTTP {status}): put one into the variable {variable}, or name the one "
        "that holds it with --api-key-env"
    )


def _status(address: str, key: str | None) -> dict[str, Any]:
    """The service's status.

    Raises:
        OSError: it does not answer.
        ValueError: with something else.
    """
    import http.client
    import urllib.error
    import urllib.request

    from forebay.load.client import open_directly  # a proxy would be shown the key

    headers = {"Authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(address, headers=headers)
    try:
        with open_directly(request, _TIMEOUT_S) as response:
            found = json.load(response)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise
    except http.client.HTTPException as error:
        raise ValueError(f"no HTTP, or a part of it ({error!r})") from error
    if not isinstance(found, dict) or "replicas" not in found:
        raise ValueError("no status of a fleet")
    return found


def _print_once(status: dict[str, Any]) -> None:
    from rich.console import Console

    Console().print(_picture(status, None))


def _watch(address: str, key: str | None, first: dict[str, Any], every: float) -> None:
    from rich.live import Live

    before = first
    with Live(_picture(first, None), auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(every)
            try:
                status = _status(address, key)
            except (OSError, ValueError) as error:  # a restart, perhaps: whoever watches, waits
                live.update(f"{address} does not answer: {error}", refresh=True)
                continue
            live.update(_picture(status, before), refresh=True)
            before = status


def _picture(status: dict[str, Any], before: dict[str, Any] | None) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from forebay.observability.console import headline, is_loud, tables

    made: list[RenderableType] = [Text(headline(status), "bold red" if is_loud(status) else "")]
    for table in tables(status, before):
        shown = Table(title=table.title, box=box.SIMPLE_HEAD, title_justify="left")
        for number, column in enumerate(table.columns):
            shown.add_column(column, justify="left" if number == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        made.append(shown)
    return Group(*made)
