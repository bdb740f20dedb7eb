"""The tenants file as a running service sees it: re-read when it changes, never lost to a typo."""

from pathlib import Path
from typing import Protocol

from forebay.spec.problems import SpecError
from forebay.spec.tenants import Tenants
from forebay.spec.tenants_loading import load_tenants_text, read_text

LOOK_EVERY_S = 1.0  # a revoked key works for about this long; a stat costs microseconds

_Stamp = tuple[int, ...] | None  # inode, size, mtime and ctime in ns; None: it cannot be read


class LastGood(Protocol):
    """Where the text of the last good version is at hand for those who find a wrong one."""

    def read(self) -> str | None:
        """The text; None where there is none."""

    def write(self, text: str) -> None:
        """Replace it."""


class Nowhere:
    """No such place."""

    def read(self) -> str | None:
        """None."""
        return None

    def write(self, text: str) -> None:
        """Forget it."""


class TenantsFile:
    """The tenants of a file, as of at most a second ago.

    A new version that cannot be read or is wrong changes nothing: the last good one stays, and
    `error` says what is wrong until the file is right again. Who starts beside such a file takes
    the version that others have read last, as whoever finds it wrong where it is right elsewhere.
    What cannot be read is tried again a second later, what is wrong when it changes. A file in a
    Kubernetes secret is a link whose target is exchanged, which changes the inode too.
    """

    def __init__(self, path: str | Path, now: float, last_good: LastGood | None = None) -> None:
        """Read the file at `now`, in seconds on the caller's clock.

        Raises:
            SpecError: it cannot be read, or says something impossible, and there is no last good
                version of it.
        """
        self.path = Path(path)
        self._last_good = last_good or Nowhere()
        self._fault: SpecError | None = None
        self._text: str | None = None  # of the tenants
        self._tenants = Tenants.nobody()
        self._stamp: _Stamp = None
        self._looked_at = now
        self.look()
        if self._text is None and self._fault is not None:
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
        return self._tenants

    def look(self) -> Tenants:
        """The tenants, as the file says now."""
        stamp = self._stamp_now()
        if stamp is None or stamp != self._stamp:
            self._stamp = stamp if self._reload() else None
        elif self._fault is not None:
            self._follow()
        return self._tenants

    def _reload(self) -> bool:
        """Take over the file's tenants if they are right; whether it could be read at all."""
        text, self._fault = None, None
        try:
            text = read_text(self.path)
            self._take(text)
        except SpecError as fault:
            self._fault = fault
            self._follow()
        else:
            self._last_good.write(text)
        return text is not None

    def _follow(self) -> None:
        """While the file is wrong here, go on with what is right elsewhere."""
        text = self._last_good.read()
        if text is not None and text != self._text:
            self._take(text)

    def _take(self, text: str) -> None:
        self._tenants = Tenants(load_tenants_text(text, str(self.path)))
        self._text = text

    def _stamp_now(self) -> _Stamp:
        try:
            seen = self.path.stat()
        except OSError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns

    def __repr__(self) -> str:
        state = "stale" if self._fault else "current"
        return f"<TenantsFile {self.path} {state} {self._tenants!r}>"
