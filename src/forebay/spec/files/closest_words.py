"""Turns pydantic's errors into our words: what is wrong with the value, and what to write."""

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from forebay.spec.files.problems import Fault, did_you_mean

_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")
_BOUNDS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be at most {le:g}",
}
_WANTED = {
    "string_type": "text (quotes make it text)",
    "string_too_short": "a name",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "finite_number": "a finite number",
}
_SIZES = {
    "too_short": "holds {actual_length} of at least {min_length} values",
    "too_long": "holds {actual_length} of at most {max_length} values",
}


def as_fault(error: ErrorDetails, root: type[BaseModel]) -> Fault:
    """The error as a fault; `root` is the model that was validated."""
    loc = tuple(str(part) for part in error["loc"] if part != "[key]")
    if is_unknown_key(error):
        hint = did_you_mean(loc[-1], _known_keys(root, loc[:-1]))
        return Fault(loc, "unknown key", hint)
    return Fault(loc, *_words(error))


def is_unknown_key(error: ErrorDetails) -> bool:
    """Whether the fault lies in a key, not in a value."""
    return error["type"] in _UNKNOWN_KEY or error["loc"][-1:] == ("[key]",)


def kind_of(value: object) -> str:
    """A value's kind in YAML's terms, for a message."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "an empty value"
    return f"the single value {_shown(value)}"


def _words(error: ErrorDetails) -> tuple[str, str]:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "refused":
        return context["message"], context["hint"]
    if kind == "missing":
        return "is missing", "it has no default"
    if kind in _BOUNDS:
        return f"{_shown(value)} {_BOUNDS[kind].format(**context)}", ""
    if kind == "literal_error":
        return f"{_shown(value)} is not one of {context['expected']}", ""
    if kind in _WANTED:
        return f"{_shown(value)} is not {_WANTED[kind]}", ""
    if kind in _SIZES:
        return _SIZES[kind].format(**context), ""
    return f"{_shown(value)}: {error['msg']}", ""


def _known_keys(root: type[BaseModel], loc: tuple[str, ...]) -> list[str]:
    """Names that may stand directly below `loc`."""
    here: Any = root
    for part in loc:
        here = _below(here, part)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [info.alias or name for name, info in here.model_fields.items()]
    if get_origin(here) is dict:
        return [str(name) for name in get_args(get_args(here)[0])]
    return []


def _below(here: Any, part: str) -> Any:
    if isinstance(here, type) and issubclass(here, BaseModel):
        fields = {info.alias or name: info for name, info in here.model_fields.items()}
        return _plain(fields[part].annotation) if part in fields else None
    if get_origin(here) is list:
        return get_args(here)[0]
    return get_args(here)[1] if get_origin(here) is dict else None


def _plain(annotation: Any) -> Any:
    """The type without its `| None`."""
    if get_origin(annotation) is UnionType:
        return next(kind for kind in get_args(annotation) if kind is not NoneType)
    return annotation


def _shown(value: object) -> str:
    if value is None:
        return "an empty value"
    if isinstance(value, Mapping | list):
        return kind_of(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a duration arrives here as seconds: 0s as 0.0
    return str(value).lower() if isinstance(value, bool) else repr(value)
