"""Recorded traffic as sessions: who asked how much, and when.

Formats and their sources:

- ``azure``: AzurePublicDataset, LLM inference traces of 2023 and 2024; CSV with ``TIMESTAMP``,
  ``ContextTokens``, ``GeneratedTokens``.
- ``burstgpt``: BurstGPT (Wang et al., 2024); CSV with ``Timestamp`` in seconds, ``Request tokens``,
  ``Response tokens`` and further columns.
- ``mooncake``: Mooncake (Qin et al., FAST 2025); JSON lines with ``timestamp`` in ms,
  ``input_length``, ``output_length`` and ``hash_ids``, one for each block of 512 tokens: equal ids
  stand for an equal prompt up to and including that block.
- ``forebay``: JSON lines with ``at_s``, ``prompt_tokens``, ``output_tokens`` and optionally
  ``blocks`` with ``block_tokens``, ``class``, ``tenant``.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from forebay.workload.prompts import Segment
from forebay.workload.requests import Request, Session

MOONCAKE_BLOCK = 512  # tokens

_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


class TraceError(ValueError):
    """A line of a trace cannot be used; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        self.line = line
        super().__init__(f"line {line}: {message}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One recorded request.

    Attributes:
        at_s: seconds from the start of the trace.
        prompt_tokens, output_tokens: 1 or more each.
        blocks: names of its prompt's leading blocks of `block_tokens`; the last may be cut short.
        class_name, tenant: as recorded; empty if not.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[str, ...] = ()
    block_tokens: int = MOONCAKE_BLOCK
    class_name: str = ""
    tenant: str = ""


def read_trace(format_name: str, lines: Iterable[str]) -> list[Row]:
    """The rows of a trace in order of time, from second 0; rows without a token in or out are left
    out, since no server is asked for them.

    Raises:
        TraceError: a line is not of the format.
        ValueError: the format is unknown, or nothing is left.
    """
    if format_name not in _READERS:
        raise ValueError(f"unknown trace format {format_name!r}; known: {', '.join(_READERS)}")
    found = sorted(_READERS[format_name](lines), key=lambda row: row.at_s)
    used = [row for row in found if row.prompt_tokens > 0 and row.output_tokens > 0]
    if not used:
        raise ValueError("the trace holds no request")
    return shifted(used, -used[0].at_s)


def shifted(rows: Sequence[Row], by_s: float) -> list[Row]:
    """The same rows `by_s` seconds later."""
    return [_at(row, row.at_s + by_s) for row in rows]


def trace_sessions(rows: Sequence[Row]) -> list[Session]:
    """Each row as a session of one turn; blocks become segments that equal names share."""
    interned: dict[tuple[str, int], Segment] = {}
    return [
        Session(
            number=number,
            turns=(_request(row, number, interned),),
            at_s=row.at_s,
            kind="trace",
            class_name=row.class_name,
            tenant=row.tenant,
        )
        for number, row in enumerate(rows)
    ]


def _request(row: Row, number: int, interned: dict[tuple[str, int], Segment]) -> Request:
    segments = _segments(row, number, interned)
    return Request(segments=segments, output_tokens=row.output_tokens)


def _segments(
    row: Row, number: int, interned: dict[tuple[str, int], Segment]
) -> tuple[Segment, ...]:
    """The prompt's blocks; what no block covers is the request's own."""
    parts, left = [], row.prompt_tokens
    for block in row.blocks:
        size = min(left, row.block_tokens)
        if size <= 0:
            break
        key = (block, size)
        parts.append(interned.setdefault(key, Segment(f"block/{block}", size, shared=True)))
        left -= size
    if left > 0:
        parts.append(Segment(f"trace/{number}", left))
    return tuple(parts)


def _at(row: Row, at_s: float) -> Row:
    return Row(
        at_s=at_s,
        prompt_tokens=row.prompt_tokens,
        output_tokens=row.output_tokens,
        blocks=row.blocks,
        block_tokens=row.block_tokens,
        class_name=row.class_name,
        tenant=row.tenant,
    )


def _azure(lines: Iterable[str]) -> Iterator[Row]:
    first: datetime | None = None
    for number, row in _table(lines, ("TIMESTAMP", "ContextTokens", "GeneratedTokens")):
        with _Blame(number):
            second, fraction = _instant(_value(row, "TIMESTAMP"))
            first = first or second
            yield Row(
                at_s=(second - first).total_seconds() + fraction,
                prompt_tokens=_whole(row, "ContextTokens"),
                output_tokens=_whole(row, "GeneratedTokens"),
            )


def _burstgpt(lines: Iterable[str]) -> Iterator[Row]:
    for number, row in _table(lines, ("Timestamp", "Request tokens", "Response tokens")):
        with _Blame(number):
            yield Row(
                at_s=_number(row, "Timestamp"),
                prompt_tokens=_whole(row, "Request tokens"),
                output_tokens=_whole(row, "Response tokens"),
            )


def _mooncake(lines: Iterable[str]) -> Iterator[Row]:
    for number, row in _objects(lines):
        with _Blame(number):
            yield Row(
                at_s=_number(row, "timestamp") / 1000,
                prompt_tokens=_whole(row, "input_length"),
                output_tokens=_whole(row, "output_length"),
                blocks=_names(row, "hash_ids"),
            )


def _forebay(lines: Iterable[str]) -> Iterator[Row]:
    for number, row in _objects(lines):
        with _Blame(number):
            yield Row(
                at_s=_number(row, "at_s"),
                prompt_tokens=_whole(row, "prompt_tokens"),
                output_tokens=_whole(row, "output_tokens"),
                blocks=_names(row, "blocks"),
                block_tokens=_block_tokens(row),
                class_name=str(row.get("class") or ""),
                tenant=str(row.get("tenant") or ""),
            )


_READERS: Mapping[str, Callable[[Iterable[str]], Iterator[Row]]] = {
    "azure": _azure,
    "burstgpt": _burstgpt,
    "mooncake": _mooncake,
    "forebay": _forebay,
}
FORMATS = tuple(_READERS)


class _Blame:
    """Says in which line a value was missing or was not what it should be."""

    def __init__(self, line: int) -> None:
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise TraceError(self._line, f"has no {error.args[0]}") from None
        if isinstance(error, ValueError):
            raise TraceError(self._line, str(error)) from None


def _table(lines: Iterable[str], needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(lines)
    try:
        absent = [name for name in needed if name not in (reader.fieldnames or ())]
        if absent:
            raise TraceError(1, f"has no column {', '.join(absent)}")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise TraceError(reader.reader.line_num, f"is not CSV: {error}") from None


def _objects(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TraceError(number, f"is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise TraceError(number, "is not a JSON object")
        yield number, row


def _value(row: Mapping[str, Any], name: str) -> Any:
    """The value; a short line of CSV holds None where one is missing.

    Raises:
        KeyError: there is none.
    """
    if row.get(name) is None:
        raise KeyError(name)
    return row[name]


def _number(row: Mapping[str, Any], name: str) -> float:
    """A finite number.

    Raises:
        KeyError: there is none.
        ValueError: it is another thing.
    """
    value = _value(row, name)
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} is {value!r}, not a number")
    return number


def _whole(row: Mapping[str, Any], name: str) -> int:
    """A number of tokens; 12.0 counts as 12, as tables are often exported.

    Raises:
        KeyError: there is none.
        ValueError: it is another thing.
    """
    number = _number(row, name)
    if number < 0 or not number.is_integer():
        raise ValueError(f"{name} is {row[name]!r}, not a whole number of tokens")
    return int(number)


def _names(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = row.get(name)
    if not isinstance(found, list | None):
        raise ValueError(f"{name} is {found!r}, not a list")
    return tuple(str(block) for block in found or ())


def _block_tokens(row: Mapping[str, Any]) -> int:
    size = _whole(row, "block_tokens") if "block_tokens" in row else MOONCAKE_BLOCK
    if size < 1:
        raise ValueError("block_tokens is 0: a block has 1 token or more")
    return size


def _instant(text: str) -> tuple[datetime, float]:
    """A time stamp as its whole second and the rest, in seconds; UTC where no zone is written.

    Azure writes seven digits of the rest, one more than a datetime holds.
    """
    match = _INSTANT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 2023-11-16 18:15:46.6805900")
    second, digits, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z") else zone
    return datetime.fromisoformat(f"{second}{zone}"), float(f"0.{digits or 0}")
