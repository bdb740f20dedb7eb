"""The tenants file as a running service sees it: re-read when it changes, never lost to a typo."""

from pathlib import Path

from forebay.spec.problems import SpecError
from forebay.spec.tenants import Tenants
from forebay.spec.tenants_loading import load_tenants, load_tenants_text, read_text

_LOOK_EVERY_S = 1.0  # a revoked key works for about this long; a stat costs microseconds

_Stamp = tuple[int, ...] | None  # inode, size, mtime and ctime in ns; None: it cannot be read


class TenantsFile:
    """The tenants of a file, as of at most a second ago.

    A new version that cannot be read or is wrong changes nothing: the last good one stays, and
    `error` says what is wrong until the file is right again. What cannot be read is tried again a
    second later, what is wrong when it changes. A file in a Kubernetes secret is a link whose
    target is exchanged, which changes the inode too.
    """

    def __init__(self, path: str | Path, now: float) -> None:
        """Read the file at `now`, in seconds on the caller's clock.

        Raises:
            SpecError: it cannot be read, or says something impossible.
        """
        self.path = Path(path)
        self.error: str | None = None
        self._stamp = self._look()
        self._tenants = Tenants(load_tenants(self.path))
        self._looked_at = now

    def current(self, now: float) -> Tenants:
        """The tenants; looks at the file when the last look is a second old."""
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp if self._reload() else None
        return self._tenants

    def _reload(self) -> bool:
        """Take over the file's tenants if they are right; whether it could be read at all."""
        text = None
        try:
            text = read_text(self.path)
            self._tenants = Tenants(load_tenants_text(text, str(self.path)))
        except SpecError as error:
            self.error = str(error)
        else:
            self.error = None
        return text is not None

    def _look(self) -> _Stamp:
        try:
            seen = self.path.stat()
        except OSError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns

    def __repr__(self) -> str:
        state = "stale" if self.error else "current"
        return f"<TenantsFile {self.path} {state} {self._tenants!r}>"
