"""Where an HTTP endpoint is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint.

    Attributes:
        host: name or address.
        port: TCP port.
        tls: whether to speak HTTPS (certificates are verified).
        base_path: put before every request's path.
    """

    host: str
    port: int
    tls: bool = False
    base_path: str = ""

    @classmethod
    def from_url(cls, url: str, **more: Any) -> Self:
        """Reads ``http[s]://host[:port][/base]``; `more` are a subclass's own fields.

        Raises:
            ValueError: it is no such URL. The message does not repeat it.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("not a URL such as http://localhost:8000")
        port = parts.port or _PORTS[parts.scheme]
        tls = parts.scheme == "https"
        return cls(parts.hostname, port, tls, parts.path.rstrip("/"), **more)

    @property
    def authority(self) -> str:
        """Host and port, but for the usual one."""
        return self.host_and_port.removesuffix(f":{_PORTS[self._scheme]}")

    @property
    def host_and_port(self) -> str:
        """Both, whichever port it is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """It again, as a URL."""
        return f"{self._scheme}://{self.authority}{self.base_path}"

    @property
    def _scheme(self) -> str:
        return "https" if self.tls else "http"


def base_url(url: str) -> str:
    """The URL without a trailing ``/v1`` or slash, with a scheme.

    Raises:
        ValueError: it is no http(s) URL, or has a user or password in it; these are not repeated.
    """
    full = url if "://" in url else f"http://{url}"
    if "@" in urlsplit(full).netloc:
        raise ValueError(
            "a URL with a user or password in it: send them as a header, "
            '--header "Authorization: Basic ..."'
        )
    base = full.rstrip("/").removesuffix("/v1").rstrip("/")
    if urlsplit(base).scheme not in _PORTS or not urlsplit(base).hostname:
        raise ValueError(f"not an http(s) URL: {base!r}")
    Target.from_url(base)  # a port may be none
    return base
