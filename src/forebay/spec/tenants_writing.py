"""Writes a tenants file: whole or not at all, and one writer after the other."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from forebay.spec.tenants_edit import Edited
from forebay.spec.tenants_loading import read_text

_MODE = 0o600  # hashes open nothing, but who uses the service is nobody else's affair


def update_tenants_file(path: Path, edit: Callable[[str], Edited]) -> Edited:
    """Change the file by `edit` (text to text), alone; it is made if it is not there.

    The lock is on a file of its own, `NAME.lock`, which stays: a lock on the tenants file would be
    on what has been renamed away.

    Raises:
        OSError: the file or its lock cannot be written.
        SpecError: the file cannot be read.
    """
    path = path.resolve()  # through a link, so that not the link is replaced
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, _MODE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        edited = edit(read_text(path) if path.exists() else "")
        _replace(path, edited.text)
        return edited
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
