"""The fields of the service file as data, for the starter file and the reference page."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from forebay.spec.files import Bytes, Seconds, Share
from forebay.spec.service.service_spec import ModelSpec, ServiceSpec


@dataclass(frozen=True)
class FieldDoc:
    """One field: where it stands, what it takes, and what it says of itself."""

    path: tuple[str, ...]
    kind: str  # "duration", "whole number" ...
    description: str
    required: bool
    default: Any  # as it would be written; None when it is derived
    example: Any
    section: type[BaseModel] | None  # the model below it, for a field that holds more fields


def field_docs() -> Iterator[FieldDoc]:
    """Every field of the service file, each section before what is in it."""
    smallest = ServiceSpec(name="my-service", model=ModelSpec(id="demo", source="demo"))
    yield from _docs_of(ServiceSpec, (), smallest.model_dump())


def _docs_of(
    model: type[BaseModel], path: tuple[str, ...], defaults: dict[str, Any]
) -> Iterator[FieldDoc]:
    for name, info in model.model_fields.items():
        below = (*path, name)
        default = defaults.get(name)
        yield FieldDoc(
            path=below,
            kind=_kind(info),
            description=info.description or "",
            required=info.is_required(),
            default=default,
            example=(info.examples or [None])[0],
            section=_section(info.annotation),
        )
        yield from _inside(info.annotation, below, default)


def _inside(annotation: Any, path: tuple[str, ...], default: Any) -> Iterator[FieldDoc]:
    """The fields below a section, and those of one entry below a mapping of sections."""
    if _section(annotation) is None:
        return
    if get_origin(annotation) is dict:
        model = get_args(annotation)[1]
        for key, entry in (default or {}).items():
            words = f"The class `{key}`."
            yield FieldDoc((*path, key), "mapping", words, False, entry, None, model)
            yield from _docs_of(model, (*path, key), entry)
    else:
        yield from _docs_of(annotation, path, default or {})


def _section(annotation: Any) -> type[BaseModel] | None:
    inner = get_args(annotation)[1] if get_origin(annotation) is dict else annotation
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_WITH_UNITS = {
    get_args(Seconds)[1]: "duration",
    get_args(Bytes)[1]: "size",
    get_args(Share)[1]: "share",
}


def _kind(info: FieldInfo) -> str:
    """What may be written, in words."""
    parts = get_args(info.annotation)
    if any(get_origin(part) is list for part in (info.annotation, *parts)):
        return "list"
    marks = [*info.metadata, *(mark for part in parts for mark in get_args(part))]
    for mark, kind in _WITH_UNITS.items():
        if mark in marks:
            return kind
    choice = next((part for part in (info.annotation, *parts) if get_origin(part) is Literal), None)
    if choice is not None and get_origin(info.annotation) is not dict:
        return " or ".join(f"`{value}`" for value in get_args(choice))
    plain = next((part for part in (info.annotation, *parts) if part in _KINDS), None)
    return "mapping" if get_origin(info.annotation) is dict or plain is None else _KINDS[plain]
