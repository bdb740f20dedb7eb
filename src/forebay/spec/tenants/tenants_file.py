"""The tenants file as a running service sees it: re-read when it changes, never lost to a typo."""

import logging
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

from forebay.spec.files import SpecError
from forebay.spec.tenants.tenant_list import Tenants
from forebay.spec.tenants.tenants_loading import load_tenants_text, read_tenants_text

LOOK_EVERY_S = 1.0  # a revoked key works for about this long; a stat costs microseconds
_LOG = logging.getLogger("ray.serve")  # of a replica, whose log has no others


@dataclass(frozen=True, slots=True)
class Version:
    """A text of the file, and when it was put where it was read (ns since 1970).

    An older file that is moved there in place of a newer one has been put there later, though it
    was written earlier.
    """

    text: str
    put_ns: int


class LastGood(Protocol):
    """Where a fleet has the last good version of the file."""

    def read(self) -> Version | None:
        """The version; None where there is none."""

    def write(self, version: Version) -> bool:
        """Replace it; whether that was done."""


class Nowhere:
    """No such place."""

    def read(self) -> Version | None:
        """None."""
        return None

    def write(self, version: Version) -> bool:
        """Forget it."""
        return True


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What a change of the file changes; ctime too, for a filesystem may have coarse times."""

    inode: int
    size: int
    written_ns: int
    changed_ns: int


class TenantsFile:
    """The tenants of a file, as of at most a second ago.

    A new version that cannot be read or is wrong changes nothing: the last good one stays, and
    `error` says what is wrong until the file is right again. What cannot be read is tried again a
    second later, what is wrong when it changes. A file in a Kubernetes secret is a link whose
    target is exchanged, which changes the inode too.

    A fleet shares its last good version. Who finds a wrong file takes that if it is newer than what
    it has itself, so a replica can start beside a typo, and a key that is revoked where the file is
    right is revoked everywhere. Where there is no file at all, nothing is taken: it has not been
    put there, which no start should hide.

    `look` reads the disk, `share` asks the fleet, which may take long. Each may run in a thread,
    beside the other.

    Attributes:
        path: of the file.
        tenants: those of the last good version.
    """

    def __init__(self, path: str | Path, now: float, last_good: LastGood | None = None) -> None:
        """Read the file at `now`, in seconds on the caller's clock.

        Raises:
            SpecError: it cannot be read, or says something impossible, and there is no last good
                version of it.
        """
        self.path = Path(path)
        self._last_good = last_good or Nowhere()
        self._lock = Lock()
        self._fault: SpecError | None = None
        self._stamp: _Stamp | None = None
        self._taken: Version | None = None
        self.tenants = Tenants.nobody()
        self._shared = False  # or newer than what the fleet has
        self._looked_at = now
        self.look()
        self.share()
        if self._taken is None and self._fault is not None:
            raise self._fault

    @property
    def error(self) -> str | None:
        """What is wrong with the file as it is now; None: nothing."""
        return None if self._fault is None else str(self._fault)

    def current(self, now: float) -> Tenants:
        """The tenants; looks at the file when the last look is a second old."""
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self.look()
        return self.tenants

    def look(self) -> None:
        """Take over what the file says now."""
        stamp = self._stamp_now()
        if stamp is None or stamp != self._stamp:
            self._stamp = stamp if self._reload(stamp) else None

    def share(self) -> None:
        """Tell the fleet of what the file says; where it is wrong, ask what others have read."""
        mine = self._taken
        if self._fault is None and mine is not None:
            told = self._shared or self._tell(mine)
            with self._lock:
                self._shared = told and self._taken is mine
        elif self._stamp_now() is not None:
            self._follow()

    def _tell(self, mine: Version) -> bool:
        told = self._last_good.read()
        newer = told is None or told.put_ns < mine.put_ns
        return self._last_good.write(mine) if newer else True

    def _follow(self) -> None:
        told = self._last_good.read()
        if told is None or (self._taken and told.put_ns <= self._taken.put_ns):
            return
        try:
            self._take(told)
        except SpecError as error:  # of another version of this software
            _LOG.warning("what others have read last cannot be taken over: %s", error)

    def _reload(self, stamp: _Stamp | None) -> bool:
        """Take over the file's tenants if they are right; whether it could be read at all."""
        text = fault = None
        try:
            text = read_tenants_text(self.path)
            self._take(Version(text, stamp.changed_ns if stamp else 0), own=True)
        except SpecError as error:
            fault = error
        self._fault = fault
        return text is not None

    def _take(self, version: Version, *, own: bool = False) -> None:
        """These tenants from now on; those of the file itself in any case.

        Raises:
            SpecError: they are wrong.
        """
        tenants = Tenants(load_tenants_text(version.text, str(self.path)))
        with self._lock:
            if own or self._taken is None or version.put_ns > self._taken.put_ns:
                self.tenants, self._taken, self._shared = tenants, version, not own

    def _stamp_now(self) -> _Stamp | None:
        """None: it cannot be seen."""
        try:
            seen = self.path.stat()
        except OSError:
            return None
        return _Stamp(seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)

    def __repr__(self) -> str:
        state = "stale" if self._fault else "current"
        return f"<TenantsFile {self.path} {state} {self.tenants!r}>"
