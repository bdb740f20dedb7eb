"""Writes a tenants file: whole or not at all, and one writer after the other."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from forebay.spec.tenants.tenants_edit import Edited
from forebay.spec.tenants.tenants_loading import read_tenants_text

_MODE = 0o600  # hashes open nothing, but who uses the service is nobody else's affair


def update_tenants_file(path: Path, edit: Callable[[str], Edited]) -> Edited:
    """Change the file by `edit` (text to text), alone; it is made if it is not there.

    Who could read it still can: the service may run as another user than who edits.

    The lock is on a file of its own, `NAME.lock`, which stays: a lock on the tenants file would be
    on what has been renamed away.

    Raises:
        OSError: the file or its lock cannot be written.
        SpecError: the file cannot be read.
    """
    path = path.resolve()  # through a link, so that not the link is replaced
    lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, _MODE)
    try:
        if os.fstat(lock).st_uid == os.geteuid():  # who may write the one needs the other
            _keep_access(lock, path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        edited = edit(read_tenants_text(path) if path.exists() else "")
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
            _keep_access(file.fileno(), path)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _keep_access(handle: int, path: Path) -> None:
    """Give the open file the mode and owner of what it replaces, as far as this user may."""
    if not path.exists():
        return
    before = path.stat()
    mode = stat.S_IMODE(before.st_mode)
    if not (_chown(handle, before.st_uid, before.st_gid) or _chown(handle, -1, before.st_gid)):
        mode &= ~stat.S_IRWXG  # what one group could is not for another
    os.fchmod(handle, mode)


def _chown(handle: int, owner: int, group: int) -> bool:
    """Whether it was permitted; -1 leaves the owner as it is."""
    try:
        os.fchown(handle, owner, group)
    except OSError:
        return False
    return True
