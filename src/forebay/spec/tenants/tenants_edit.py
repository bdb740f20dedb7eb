"""Changes of a tenants file: by lines, so that comments stay, checked by what comes out.

Each change is made twice: on the data, and on the text of the lines that it touches. Where the
changed text does not read as the changed data (flow style, anchors), the file is written anew from
the data, with the comments at its head and without those in between.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace
from typing import Any

import yaml
from pydantic import ValidationError

from forebay.spec.files import Fault, SpecError, as_fault, compose, parse
from forebay.spec.tenants.tenant_keys import HASH_PREFIX, key_hash, without_secrets
from forebay.spec.tenants.tenant_list import Tenant
from forebay.spec.tenants.tenants_loading import load_tenants_text

HEAD = """\
# Who may use the service. `forebay keys` writes this file; docs/reference/tenants.md describes it.
"""

_BEGINNING = re.compile(r"[0-9a-f]{6,}")  # fewer digits may be a mistyped name


class NotMeantError(LookupError):
    """What is to be revoked names nobody, or more than one key."""


@dataclass(frozen=True)
class Edited:
    """A changed file.

    Attributes:
        text: its text.
        changed: tenants that have other keys or fields now.
        removed: tenants that are gone.
        left: how many there are.
        comments_lost: whether comments between the lines could not be kept.
    """

    text: str
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    left: int
    comments_lost: bool


def setting_faults(name: str, settings: dict[str, Any]) -> list[Fault]:
    """What a tenant may not be called, or not have, before any file is touched."""
    try:
        Tenant(name=name, key_hashes=[key_hash("")], **settings)
    except ValidationError as error:
        faults = [as_fault(one, Tenant) for one in error.errors(include_url=False)]
        return [replace(one, message=without_secrets(one.message)) for one in faults]
    return []


def add_key(text: str, file: str, name: str, stored: str, settings: dict[str, Any]) -> Edited:
    """Give a tenant a further key, or add the tenant; `settings` are its other fields.

    Raises:
        SpecError: the file, or what it would become, says something impossible.
    """
    data = _data(text, file)
    wanted = copy.deepcopy(data)
    names = [tenant["name"] for tenant in data["tenants"]]
    if name in names:
        tenant = wanted["tenants"][names.index(name)]
        tenant["key_hashes"].append(stored)
        tenant.update(settings)
        changed = "" if settings else _with_key(text, names.index(name), stored)
    else:
        tenant = {"name": name, "key_hashes": [stored], **settings}
        wanted["tenants"].append(tenant)
        changed = _with_tenant(text, tenant)
    return _checked(text, file, changed, data, wanted)


def revoke(text: str, file: str, which: str) -> Edited:
    """Remove the tenant of this name, or else the key whose hash begins so.

    A tenant goes with its last key.

    Raises:
        NotMeantError: nobody is meant, or several keys are; the beginning is below 6 digits.
        SpecError: the file says something impossible.
    """
    data = _data(text, file)
    gone = _meant(data, which)
    wanted: dict[str, Any] = {"tenants": []}
    for tenant in data["tenants"]:
        left = [stored for stored in tenant["key_hashes"] if stored not in gone]
        if left:
            wanted["tenants"].append({**tenant, "key_hashes": left})
    kept = {tenant["name"] for tenant in wanted["tenants"]}
    return _checked(text, file, _cut(text, kept, gone), data, wanted)


def _meant(data: dict[str, Any], which: str) -> set[str]:
    """The hashes that are to go."""
    by_name = {tenant["name"]: tenant["key_hashes"] for tenant in data["tenants"]}
    if which in by_name:
        return set(by_name[which])
    digits = which.removeprefix(HASH_PREFIX).lower()
    if not _BEGINNING.fullmatch(digits):
        raise NotMeantError(
            "no tenant has that name, and a hash's beginning is at least 6 hexadecimal digits"
        )
    stored = [one for hashes in by_name.values() for one in hashes]
    meant = {one for one in stored if one.startswith(HASH_PREFIX + digits)}
    if not meant:
        raise NotMeantError("no tenant has that name, and no key a hash that begins so")
    if len(meant) > 1:
        raise NotMeantError(f"{len(meant)} keys have hashes that begin so; write more of it")
    return meant


def _is_empty(text: str) -> bool:
    return all(line.lstrip()[:1] in ("", "#") for line in text.splitlines())


def _data(text: str, file: str) -> dict[str, Any]:
    """The plain data of a file that was checked; an empty one has no tenants."""
    if _is_empty(text):
        return {"tenants": []}
    load_tenants_text(text, file)
    data: dict[str, Any] = parse(text, file).data
    return data


def _checked(
    text: str, file: str, changed: str, data: dict[str, Any], wanted: dict[str, Any]
) -> Edited:
    """The changed text if it says what is wanted; otherwise what is wanted, written anew."""
    lost = not changed or not _reads_as(changed, wanted)
    if lost:
        changed = _head(text) + yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True)
    load_tenants_text(changed, file)
    before = {tenant["name"]: tenant for tenant in data["tenants"]}
    after = {tenant["name"]: tenant for tenant in wanted["tenants"]}
    return Edited(
        text=changed,
        changed=tuple(name for name in after if after[name] != before.get(name)),
        removed=tuple(name for name in before if name not in after),
        left=len(after),
        comments_lost=lost and "#" in text.removeprefix(_head(text)),
    )


def _head(text: str) -> str:
    """The comments before anything else; those of a new file if there are none."""
    lines = text.splitlines(keepends=True)
    first = next((k for k, line in enumerate(lines) if not _is_empty(line)), len(lines))
    return "".join(lines[:first]) or HEAD


def _reads_as(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return bool(parse(text, "").data == wanted)
    except SpecError:
        return False


# --- lines ------------------------------------------------------------------------------------


def _nodes(text: str) -> list[yaml.MappingNode]:
    """The tenants' nodes, each with the place of all that is in it."""
    root = compose(text)
    assert isinstance(root, yaml.MappingNode)
    ((_, listed),) = root.value
    return list(listed.value)


def _keys_of(node: yaml.MappingNode) -> list[yaml.Node]:
    listed = next(value for key, value in node.value if key.value == "key_hashes")
    return list(listed.value)


def _with_tenant(text: str, tenant: dict[str, Any]) -> str:
    """The text with a tenant after the last one, indented as that is."""
    if _is_empty(text):
        return _ended(_head(text)) + yaml.safe_dump({"tenants": [tenant]}, sort_keys=False)
    nodes = _nodes(text)
    if not nodes:
        empty = re.sub(r"(?m)^tenants:[ \t]*\[[ \t]*\][ \t]*$", "tenants:", text)
        return _ended(empty) + yaml.safe_dump([tenant], sort_keys=False)
    lines = text.splitlines(keepends=True)
    dash = lines[nodes[-1].start_mark.line]
    indent = dash[: len(dash) - len(dash.lstrip())]
    block = yaml.safe_dump([tenant], sort_keys=False)
    return _ended(text) + "".join(indent + line for line in block.splitlines(keepends=True))


def _with_key(text: str, index: int, stored: str) -> str:
    """The text with a hash in a line of its own after the tenant's last one."""
    last = _keys_of(_nodes(text)[index])[-1]
    lines = text.splitlines(keepends=True)
    place = last.start_mark.line
    before = lines[place][: last.start_mark.column]
    lines[place] = _ended(lines[place])
    return "".join([*lines[: place + 1], f"{before}{stored}\n", *lines[place + 1 :]])


def _cut(text: str, kept: set[str], gone: set[str]) -> str:
    """The text without the lines of tenants that are not kept and of hashes that are gone."""
    dropped: set[int] = set()
    for node in _nodes(text):
        name = next(value.value for key, value in node.value if key.value == "name")
        if name not in kept:
            dropped |= set(range(node.start_mark.line, _last_line(node) + 1))
        dropped |= {key.start_mark.line for key in _keys_of(node) if key.value in gone}
    lines = text.splitlines(keepends=True)
    return "".join(line for place, line in enumerate(lines) if place not in dropped)


def _last_line(node: yaml.Node) -> int:
    """The last line with something of the node in it; the node's own end is past the comments."""
    if isinstance(node, yaml.ScalarNode) or not node.value:
        return node.end_mark.line
    last = node.value[-1]
    return _last_line(last[1] if isinstance(last, tuple) else last)


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else text + "\n"
