"""Request records as a Parquet table: one row a request, one column a field."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from forebay.measure import OUTCOMES, RequestRecord

_FLOATS = frozenset(
    name for name, kind in get_type_hints(RequestRecord).items() if kind in (float, float | None)
)
_INTS = frozenset(
    name for name, kind in get_type_hints(RequestRecord).items() if kind in (int, int | None)
)
_NAMES = tuple(field.name for field in fields(RequestRecord))


class RecordsError(ValueError):
    """A file does not hold request records."""


def _type(name: str) -> pa.DataType:
    if name in _FLOATS:
        return pa.float64()
    if name in _INTS:
        return pa.int64()
    return pa.list_(pa.float64()) if name == "token_times" else pa.string()


SCHEMA = pa.schema([(name, _type(name)) for name in _NAMES])


def write_records(records: Sequence[RequestRecord], path: Path) -> None:
    """Writes the records.

    Raises:
        OSError: the file cannot be written.
    """
    columns = {name: _column(records, name) for name in _NAMES}
    pq.write_table(pa.table(columns, schema=SCHEMA), path, compression="zstd")


def _column(records: Sequence[RequestRecord], name: str) -> pa.Array:
    return pa.array([getattr(record, name) for record in records], SCHEMA.field(name).type)


def read_records(path: Path) -> list[RequestRecord]:
    """Reads them back; token times become arrays.

    Raises:
        RecordsError: the file is not such a table.
        OSError: it cannot be read.
    """
    if not path.exists():  # pyarrow's own error does not name the file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    try:
        table = pq.read_table(path)
        absent = [name for name in _NAMES if name not in table.column_names]
        if absent:
            raise RecordsError(f"{path} has no column {', '.join(absent)}")
        return list(_rows(table.select(_NAMES).cast(SCHEMA)))
    except pa.ArrowException as error:
        raise RecordsError(f"{path} is not a table of requests: {error}") from None


def _rows(table: pa.Table) -> Iterable[RequestRecord]:
    columns: list[Sequence[Any]] = [_values(table.column(name), name) for name in _NAMES]
    for row in zip(*columns, strict=True):
        values = dict(zip(_NAMES, row, strict=True))
        if values["outcome"] not in OUTCOMES:
            raise RecordsError(f"unknown outcome {values['outcome']!r}")
        yield RequestRecord(**values)


def _values(column: pa.ChunkedArray, name: str) -> Sequence[Any]:
    if name != "token_times":
        values: list[Any] = column.to_pylist()
        return values
    lists: list[Any] = []
    for chunk in column.chunks:  # as arrays: a Python float for each token costs 3 x the memory
        flat, offsets = chunk.flatten().to_numpy(), chunk.value_lengths().to_pylist()
        at = 0
        for length in offsets:
            lists.append(None if length is None else array("d", flat[at : at + length].tobytes()))
            at += length or 0
    return lists


def merged(parts: Iterable[Sequence[RequestRecord]]) -> list[RequestRecord]:
    """The workers' records as one run's: in order of the intended send, numbered from 0."""
    every = [record for part in parts for record in part]
    every.sort(key=lambda record: (record.intended_s, record.session, record.turn))
    return [replace(record, index=index) for index, record in enumerate(every)]
