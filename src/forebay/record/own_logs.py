"""Our own structured request log: JSON lines.

| key | |
|---|---|
| `at` | when the request came: a date (ISO 8601) or a Unix time in s, ms, us or ns |
| `prompt_tokens`, `output_tokens` | counts |
| `class`, `tenant` | optional |
| `blocks`, `block_tokens` | optional: names of the prompt's leading blocks, as in a trace |
"""

from __future__ import annotations

import json
from typing import Any

from forebay.record.log_lines import (
    LogLine,
    Rules,
    UnreadableLineError,
    class_name,
    tokens,
    whole_number,
)
from forebay.record.moments import unix_seconds
from forebay.workload import MOONCAKE_BLOCK


def read_own_line(line: str, rules: Rules) -> LogLine:
    """A line of our own request log.

    Raises:
        UnreadableLineError: it is none.
    """
    values = json_object(line)
    if "at" not in values:
        raise UnreadableLineError("has no at")
    blocks = values.get("blocks") or ()
    if not isinstance(blocks, list | tuple) or not all(isinstance(b, str | int) for b in blocks):
        raise UnreadableLineError("blocks is no list of names")
    return LogLine(
        at=moment(values["at"]),
        prompt_tokens=tokens(values, "prompt_tokens"),
        output_tokens=tokens(values, "output_tokens"),
        blocks=tuple(map(str, blocks)),
        block_tokens=whole_number(values.get("block_tokens", MOONCAKE_BLOCK), "block_tokens"),
        class_name=class_name(values.get("class")),
        tenant=rules.tenant(values.get("tenant")),
    )


def json_object(line: str) -> dict[str, Any]:
    """A decoded line.

    Raises:
        UnreadableLineError: it is no JSON object.
    """
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise UnreadableLineError("is not JSON") from None
    if not isinstance(values, dict):
        raise UnreadableLineError("is not a JSON object")
    return values


def moment(value: object) -> float:
    """Seconds since 1970.

    Raises:
        UnreadableLineError: it is no moment.
    """
    try:
        return unix_seconds(value)
    except ValueError as error:
        raise UnreadableLineError(str(error)) from None
