"""A recording as it is written: the `forebay` trace format, one JSON object a line.

Beside what `workload.traces` reads, a line may hold `estimated`, the names of fields that were not
counted by the server, and `outcome`, where a request was not answered in full. A request without an
answer has 0 output tokens: it stays in the file, since it was asked, and a replay leaves it out,
since nobody knows how long its answer would have been.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from forebay.workload import Row

PROMPT_TOKENS, OUTPUT_TOKENS = "prompt_tokens", "output_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One request.

    Attributes:
        row: as a replay has it; tokens may be 0 here.
        estimated: fields of `row` that were not counted by the server.
        outcome: as in `measure.records`: ``ok`` with a whole answer; ``shed``, a 429 or 503;
            ``failed``, another error, or none came; ``cut`` half-way; ``malformed``, not HTTP;
            ``cancelled``, the client left; ``stopped``, the recording ended.
    """

    row: Row
    estimated: Sequence[str] = ()
    outcome: str = "ok"


def row_line(recorded: Recorded) -> str:
    """Its line, with the line break; what is empty is left out."""
    row = recorded.row
    values: dict[str, Any] = {
        "at_s": round(row.at_s, 6),
        PROMPT_TOKENS: row.prompt_tokens,
        OUTPUT_TOKENS: row.output_tokens,
    }
    if row.blocks:
        values |= {"blocks": row.blocks, "block_tokens": row.block_tokens}
    said = {"class": row.class_name, "tenant": row.tenant, "estimated": recorded.estimated}
    values |= {name: value for name, value in said.items() if value}
    if recorded.outcome != "ok":
        values["outcome"] = recorded.outcome
    return json.dumps(values, separators=(",", ":")) + "\n"


def open_trace(path: Path, *, packed: bool) -> TextIO:
    """A new file for lines, packed with gzip or not.

    Raises:
        OSError: it cannot be made.
    """
    if packed:
        return cast(TextIO, gzip.open(path, "wt", encoding="utf-8"))
    return path.open("w", encoding="utf-8")


@contextmanager
def whole_trace(path: Path) -> Iterator[TextIO]:
    """A file that comes to bear its name only when the block ends well; packed for a name in .gz.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with open_trace(part, packed=is_packed(path)) as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def is_packed(path: Path) -> bool:
    """Whether a file of this name holds gzip."""
    return path.suffix == ".gz"
