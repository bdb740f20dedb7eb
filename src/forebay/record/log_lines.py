"""What a line of a request log tells, whatever wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forebay.record.pseudonyms import Pseudonyms
from forebay.record.sizes import BlockSize
from forebay.workload import MOONCAKE_BLOCK

_CLASS = re.compile(r"[\w.-]{1,64}")
_MOST_DIGITS = 12
_NONE = ("", "-", "null", "None")  # how logs write that there is nothing


class UnreadableLineError(ValueError):
    """A line is not of its format. The message says why, and repeats nothing of the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One request as a log tells it.

    Attributes:
        at: when it came, seconds since 1970.
        prompt_tokens, output_tokens: 0 or more; one without tokens was answered by no model.
        blocks, block_tokens: names of its prompt's leading blocks, as in a trace.
        class_name: traffic class; empty without.
        tenant: whose it is, as it is to be written; empty without.
        estimated: fields that were not counted.
    """

    at: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[str, ...] = ()
    block_tokens: int = MOONCAKE_BLOCK
    class_name: str = ""
    tenant: str = ""
    estimated: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """How lines become requests.

    Attributes:
        names: pseudonyms of this recording.
        keep_tenants: write tenants' names as the log has them, instead of pseudonyms.
        size: of the blocks that texts are cut into.
    """

    names: Pseudonyms
    keep_tenants: bool = False
    size: BlockSize = field(default_factory=BlockSize)

    def tenant(self, value: object, *, is_key: bool = False) -> str:
        """A tenant as it is to be written; one that is known by a key is never written by it."""
        text = str(value if value is not None else "").strip()
        if text in _NONE:
            return ""
        keeps = self.keep_tenants and not is_key
        return text if keeps else self.names.tenant(text.encode("utf-8", "replace"))


ReadLine = Callable[[str, Rules], LogLine]


def tokens(values: Mapping[str, Any], *names: str) -> int:
    """A count of tokens under the first of the names that is there; 0 where a log has a dash.

    Raises:
        UnreadableLineError: it is under none, or no whole number of 0 or more.
    """
    for name in names:
        if name in values:
            return whole_number(values[name], name)
    raise UnreadableLineError(f"has no {names[0]}")


def whole_number(value: object, name: str) -> int:
    """A count, from a number or a text.

    Raises:
        UnreadableLineError: it is none.
    """
    if value is None or value in _NONE:
        return 0
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value).removesuffix(".0")
    if isinstance(value, str) and value.strip().isdecimal() and len(value) <= _MOST_DIGITS:
        return int(value)
    raise UnreadableLineError(f"{name} is no count of tokens")


def class_name(value: object) -> str:
    """A traffic class.

    Raises:
        UnreadableLineError: it is longer than a name, or holds anything but letters, digits, _.-
    """
    if value is None or value in _NONE:
        return ""
    if isinstance(value, str) and _CLASS.fullmatch(value):
        return value
    raise UnreadableLineError("class is no name of a class")
