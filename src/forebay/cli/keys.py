"""`forebay keys`: who may use a service, and with which keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from forebay.spec.tenants import Edited, Tenant

keys = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, revoke and list the keys of tenants. A service that runs takes changes up within "
    "a second.",
)

_DEFAULT_FILE = Path("tenants.yaml")
_File = Annotated[Path, typer.Option("--file", help="Tenants file.")]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Tenant; an existing one gets a further key.")],
    file: _File = _DEFAULT_FILE,
    weight: Annotated[float | None, typer.Option(help="Share under contention.")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(help="Most in any minute.")] = None,
    max_concurrency: Annotated[int | None, typer.Option(help="Most requests at once.")] = None,
    highest_class: Annotated[str | None, typer.Option(help="interactive or batch.")] = None,
    cache_group: Annotated[str | None, typer.Option(help="Tenants that share a cache.")] = None,
) -> None:
    """Make a key, write its hash to the tenants file, and print the key: once, and nothing else.

    Options set the tenant's fields; for an existing tenant they change them. The file is made if it
    is not there.

    Exit code 2: the file or an option is wrong; 3: the file cannot be written.

    Example: forebay keys create shop --weight 2 --tokens-per-minute 200000
    """
    from forebay.spec.tenants import add_key, key_hash, new_key

    given = {
        "weight": weight,
        "tokens_per_minute": tokens_per_minute,
        "max_concurrency": max_concurrency,
        "highest_class": highest_class,
        "cache_group": cache_group,
    }
    settings = {field: value for field, value in given.items() if value is not None}
    _settings_or_exit(name, settings)
    key = new_key()
    _update_or_exit(file, lambda text: add_key(text, str(file), name, key_hash(key), settings))
    typer.echo(f"key of {name}, shown only now; {file} keeps its hash:", err=True)
    typer.echo(key)


@keys.command()
def revoke(
    which: Annotated[str, typer.Argument(help="Tenant, or the beginning of a key's hash.")],
    file: _File = _DEFAULT_FILE,
) -> None:
    """Take away a tenant with all its keys, or the one key whose hash begins so.

    The beginning of a hash is at least 6 hexadecimal digits, with or without sha256: before them.
    With its last key a tenant goes too. A file without tenants lets nobody in.

    Exit code 2: nobody is meant, or several keys are; 3: the file cannot be written.

    Example: forebay keys revoke sha256:12a1e1a07186
    """
    from forebay.spec.tenants import revoke as revoke_in

    if not file.exists():
        _refuse(f"{file}: no such file")
    edited = _update_or_exit(file, lambda text: revoke_in(text, str(file), which))
    for name in edited.changed:
        typer.echo(f"a key of {name} is void")
    for name in edited.removed:
        typer.echo(f"{name} may not use the service any more")
    if not edited.left:
        typer.echo("no tenant is left: nobody is let in", err=True)


@keys.command("list")
def list_keys(
    file: _File = _DEFAULT_FILE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the tenants with what is set for them and the beginnings of their keys' hashes.

    Example: forebay keys list --json
    """
    rows = [_row(tenant) for tenant in _tenants_or_exit(file)]
    if as_json:
        import json

        typer.echo(json.dumps({"file": str(file), "tenants": rows}, indent=2))
        return
    for row in rows:
        said = [f"{field.replace('_', ' ')} {value}" for field, value in row.items() if value]
        typer.echo(f"{row['name']}: {', '.join(said[1:-1])}")
        for shown in row["keys"]:
            typer.echo(f"  {shown}...")
    if not rows:
        typer.echo("no tenants: nobody is let in")


def _settings_or_exit(name: str, settings: dict[str, Any]) -> None:
    """Refuses what the file may not say by the option that said it: no line holds it yet."""
    from forebay.spec.tenants import setting_faults

    lines = []
    for fault in setting_faults(name, settings):
        field = fault.loc[0]
        option = "NAME" if field == "name" else f"--{field.replace('_', '-')}"
        said = f"{fault.message}; {fault.hint}" if fault.hint else fault.message
        lines.append(f"forebay: {option}: {said}")
    if lines:
        _refuse(*lines)


def _row(tenant: Tenant) -> dict[str, Any]:
    from forebay.spec.tenants import short_hash

    shown = tenant.model_dump(mode="json", exclude={"key_hashes"})
    return {**shown, "keys": [short_hash(stored) for stored in tenant.key_hashes]}


def _tenants_or_exit(file: Path) -> list[Tenant]:
    from forebay.spec.files import SpecError
    from forebay.spec.tenants import load_tenants

    try:
        return load_tenants(file).tenants
    except SpecError as error:
        _refuse(*(str(problem) for problem in error.problems))


def _update_or_exit(file: Path, edit: Callable[[str], Edited]) -> Edited:
    from forebay.spec.files import SpecError
    from forebay.spec.tenants import NotMeantError, update_tenants_file

    try:
        edited = update_tenants_file(file, edit)
    except SpecError as error:
        _refuse(*(str(problem) for problem in error.problems))
    except NotMeantError as error:
        _refuse(f"{error}; see: forebay keys list --file {file}")
    except OSError as error:
        typer.echo(f"{file} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(Exit.ENVIRONMENT_FAILED) from None
    if edited.comments_lost:
        typer.echo(f"{file} was written anew; comments between its lines are lost", err=True)
    return edited


def _refuse(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(line, err=True)
    raise typer.Exit(Exit.INPUT_IS_WRONG)
