"""Lines of long files: packed or not, or of stdin, one at a time, with the place reached."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

STDIN = "-"
_LONGEST_LINE = 64 << 20  # bytes; a request with its answer is below, and memory stays bounded
_TELL_EVERY = 2000  # lines

OnBytes = Callable[[int], None]  # bytes of the file itself read so far


class UnreadableFileError(ValueError):
    """A packed file is damaged or cut short; the message names it."""


def read_lines(name: str, on_bytes: OnBytes | None = None) -> Iterator[str | None]:
    """The lines of a file without their ends; None for one that is too long to be a request.

    Bytes that are no UTF-8 are replaced: such a text is still measured and hashed alike.

    Args:
        name: of the file; `-` is stdin. A name in .gz is unpacked.
        on_bytes: told now and then how far the reading has come.

    Raises:
        OSError: it cannot be read.
        UnreadableFileError: it is packed, and damaged.
    """
    try:
        with _opened(name) as (file, raw):
            for number, line in enumerate(_bounded(file), 1):
                if on_bytes is not None and number % _TELL_EVERY == 0:
                    on_bytes(raw.tell() if name != STDIN else 0)
                yield None if line is None else line.decode("utf-8-sig", "replace").rstrip("\r\n")
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UnreadableFileError(f"{name} is not a whole gzip file") from None


def total_bytes(names: list[str]) -> int | None:
    """Bytes of the files together; None with stdin among them.

    Raises:
        OSError: one is not there.
    """
    if STDIN in names:
        return None
    return sum(Path(name).stat().st_size for name in names)


def _bounded(file: BinaryIO) -> Iterator[bytes | None]:
    while line := file.readline(_LONGEST_LINE):
        if line.endswith(b"\n") or len(line) < _LONGEST_LINE:
            yield line
            continue
        while (rest := file.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """What to read lines from, and the file whose place tells how far that has come."""
    if name == STDIN:
        yield sys.stdin.buffer, sys.stdin.buffer
        return
    with Path(name).open("rb") as raw:
        if name.endswith(".gz"):
            with gzip.open(raw) as unpacked:
                yield cast(BinaryIO, unpacked), raw
        else:
            yield raw, raw
