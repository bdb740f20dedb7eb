"""Turns pydantic's errors into our words: what is wrong with the value, and what to write."""

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from forebay.spec.problems import Fault, did_you_mean

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
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "finite_number": "a finite number",
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
    return f"the single value {_shown(value)}"


def _words(error: ErrorDetails) -> tuple[str, str]:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "refused":
        return context["message"], context["hint"]
    if kind == "missing":
        return "is missing", "every service needs it"
    if kind in _BOUNDS:
        return f"{_shown(value)} {_BOUNDS[kind].format(**context)}", ""
    if kind == "literal_error":
        return f"{_shown(value)} is not one of {context['expected']}", ""
    if kind in _WANTED:
        return f"{_shown(value)} is not {_WANTED[kind]}", ""
    return f"{_shown(value)}: {error['msg']}", ""


def _known_keys(root: type[BaseModel], loc: tuple[str, ...]) -> list[str]:
    """Names that may stand directly below `loc`."""
    here: Any = root
    for part in loc:
        here = _below(here, part)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return list(here.model_fields)
    if get_origin(here) is dict:
        return [str(name) for name in get_args(get_args(here)[0])]
    return []


def _below(here: Any, part: str) -> Any:
    if isinstance(here, type) and issubclass(here, BaseModel):
        return here.model_fields[part].annotation
    return get_args(here)[1] if get_origin(here) is dict else None


def _shown(value: object) -> str:
    if value is None:
        return "an empty value"
    if isinstance(value, Mapping | list):
        return kind_of(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a duration arrives here as seconds: 0s as 0.0
    return str(value).lower() if isinstance(value, bool) else repr(value)
