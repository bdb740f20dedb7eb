"""The files that a workload file points at."""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationInfo
from pydantic_core import PydanticCustomError

from forebay.spec.files import refusal
from forebay.workload import Row, shifted

RUN_FORMAT = "run"  # of a trace: the requests.parquet that a load test writes
_RUN_COLUMNS = (
    "intended_s", "outcome", "prompt_tokens", "tokens_out", "max_tokens", "class_name", "tenant"
)  # fmt: skip


def resolved(name: str, info: ValidationInfo) -> str:
    """The file's absolute path; a relative one counts from the folder of the workload file.

    Raises:
        PydanticCustomError: there is no such file.
    """
    folder = Path((info.context or {}).get("folder", "."))
    try:
        path = (folder / Path(name).expanduser()).resolve()
        found = path.is_file()
    except (OSError, ValueError, RuntimeError):  # not a name that a file could have
        path, found = Path(name), False
    if not found:
        raise refusal(f"there is no file {path}", "relative names count from this file's folder")
    return str(path)


@contextmanager
def opened(path: str) -> Iterator[TextIO]:
    """The text of a file, unpacked where its name ends in .gz.

    Raises:
        ValueError: while it is read: it is not UTF-8 text, or no whole .gz file.
        OSError: it cannot be read.
    """
    try:
        with _open(path) as file:
            yield file
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a whole .gz file: {error}") from None


def _open(path: str) -> TextIO:
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return Path(path).open(encoding="utf-8-sig", newline="")


def read_run_rows(path: str) -> list[Row]:
    """The requests of a load test as a trace: in order of time, from second 0.

    One that was not finished is taken to be as long as it was meant to be.

    Raises:
        ValueError: the file is no such table, or holds no request.
        OSError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(f"{path} is not a table of requests: {error}") from None
    absent = [name for name in _RUN_COLUMNS if name not in table.column_names]
    if absent:
        raise ValueError(f"{path} is not a table of requests: it has no {', '.join(absent)}")
    rows = [_run_row(values) for values in table.select(_RUN_COLUMNS).to_pylist()]
    used = sorted(filter(None, rows), key=lambda row: row.at_s)
    if not used:
        raise ValueError(f"{path} holds no request")
    return shifted(used, -used[0].at_s)


def _run_row(values: dict[str, Any]) -> Row | None:
    """The request; None where nothing was to be read or written."""
    finished = values["outcome"] == "ok"
    output_tokens = values["tokens_out"] if finished else values["max_tokens"]
    if not (values["prompt_tokens"] and output_tokens):
        return None
    return Row(
        at_s=values["intended_s"],
        prompt_tokens=values["prompt_tokens"],
        output_tokens=output_tokens,
        class_name=values["class_name"],
        tenant=values["tenant"],
    )


def read_points(name: str, info: ValidationInfo) -> list[dict[str, Any]]:
    """The points of a series from a CSV file with the columns ``seconds`` and ``rate``.

    Raises:
        PydanticCustomError: there is no such file, or it holds something else.
    """
    path = resolved(name, info)
    points = []
    for line, seconds, rate in read_columns(path, ("seconds", "rate")):
        if seconds < 0 or rate < 0:
            raise refusal(f"{path}, line {line}: a value is below zero")
        points.append({"at": f"{seconds!r}s", "rate": f"{rate!r}/s"})
    return points


def read_columns(path: str, names: tuple[str, str]) -> list[tuple[int, float, float]]:
    """The line and two columns of numbers of each row of a CSV file.

    Raises:
        PydanticCustomError: it is not one, a column is missing, a value no number, or there is no
            row.
    """
    try:
        with opened(path) as file:
            found = list(_rows(path, csv.DictReader(file), names))
    except PydanticCustomError:
        raise
    except csv.Error as error:
        raise refusal(f"{path} is not CSV: {error}") from None
    except OSError as error:
        raise refusal(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise refusal(str(error)) from None
    if not found:
        raise refusal(f"{path} holds no row")
    return found


def _rows(
    path: str, reader: "csv.DictReader[str]", names: tuple[str, str]
) -> Iterator[tuple[int, float, float]]:
    if not set(names) <= set(reader.fieldnames or ()):
        raise refusal(f"{path} has no columns {names[0]} and {names[1]}", "name them in line 1")
    for row in reader:
        first, second = (_number(row[name]) for name in names)
        if not (math.isfinite(first) and math.isfinite(second)):
            raise refusal(f"{path}, line {reader.line_num}: not two numbers")
        yield reader.line_num, first, second


def _number(text: str | None) -> float:
    """NaN where it is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
