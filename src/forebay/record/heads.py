"""Heads of requests as they go upstream, and the proxy's own answers.

A client's connection and the one upstream live and die as a pair, so an answer is passed on byte
by byte, its head included: what it says of the connection is true of both. A request's head is
written anew, for it names the proxy as its host, and may ask for what cannot be passed on.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from forebay.record.answers import READABLE

CONTINUE = b"100-continue"
_PORTS = {"http": 80, "https": 443}
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
# Of this connection alone (RFC 9110, section 7.6.1), or written anew.
_NOT_PASSED_ON = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te",
        b"trailer", b"upgrade", b"host",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint behind the proxy.

    Attributes:
        host, port: where it listens.
        tls: whether it speaks HTTPS; certificates are verified.
        base_path: put before every path.
    """

    host: str
    port: int
    tls: bool = False
    base_path: bytes = b""

    @classmethod
    def from_url(cls, url: str) -> Target:
        """Reads ``http[s]://host[:port][/base]``.

        Raises:
            ValueError: it is no such URL. The message does not repeat it.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError("not a URL such as http://localhost:8000")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("a URL with credentials, a query or a fragment cannot be proxied to")
        port = parts.port or _PORTS[parts.scheme]
        if not (parts.hostname + parts.path).isascii():
            raise ValueError("not a URL in ASCII")
        base = parts.path.rstrip("/").encode("ascii")
        return cls(parts.hostname, port, parts.scheme == "https", base)

    @property
    def authority(self) -> bytes:
        """What a Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = _PORTS["https" if self.tls else "http"]
        return (host if self.port == usual else f"{host}:{self.port}").encode("ascii")

    @property
    def url(self) -> str:
        """It again, as a URL."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{self.authority.decode()}{self.base_path.decode()}"

    def tls_context(self) -> ssl.SSLContext | None:
        """How to speak to it; None for plain HTTP."""
        return ssl.create_default_context() if self.tls else None


@dataclass(slots=True)
class RequestHead:
    """A request's first line and headers, as they came. Names of headers are in lower case.

    Attributes:
        keep_alive: whether the client leaves the connection open after it.
    """

    method: bytes = b""
    target: bytes = b""
    version: str = "1.1"
    keep_alive: bool = True
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def value(self, name: bytes) -> bytes:
        """A header's value; empty without."""
        return next((value for known, value in self.headers if known == name), b"")

    @property
    def framing(self) -> list[tuple[bytes, bytes]]:
        """The headers that say where the body ends."""
        return [header for header in self.headers if header[0] in _FRAMING]

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return bool(self.value(b"transfer-encoding"))

    @property
    def waits(self) -> bool:
        """Whether the body comes only when it was asked for."""
        return self.value(b"expect").strip().lower() == CONTINUE

    def for_upstream(self, target: Target, *, watched: bool) -> bytes:
        """The head as it is sent on.

        Args:
            target: where to.
            watched: whether the answer is looked into, and must not be packed in a way that is not
                readable.
        """
        path = self.target
        if path.startswith(b"/"):  # else `*`, or a whole URL
            path = target.base_path + path
        lines = [
            b"%b %b HTTP/%b" % (self.method, path, self.version.encode("ascii")),
            b"host: " + target.authority,
            *(b"%b: %b" % header for header in self._passed_on(watched)),
        ]
        if not self.keep_alive:
            lines.append(b"connection: close")
        elif self.version == "1.0":
            lines.append(b"connection: keep-alive")
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _passed_on(self, watched: bool) -> list[tuple[bytes, bytes]]:
        said = b",".join(value for name, value in self.headers if name == b"connection")
        named = {name.strip().lower() for name in said.split(b",")}
        dropped = _NOT_PASSED_ON | (named - _FRAMING)
        kept = [(name, value) for name, value in self.headers if name not in dropped]
        if not watched:
            return kept
        return [
            (name, _readable(value) if name == b"accept-encoding" else value)
            for name, value in kept
        ]


def _readable(value: bytes) -> bytes:
    """An Accept-Encoding with those encodings alone that can be looked into."""
    offered = [part.strip() for part in value.split(b",")]
    kept = [part for part in offered if part.partition(b";")[0].strip().lower() in READABLE]
    return b", ".join(kept) or b"identity"


def own_answer(status: HTTPStatus, message: str, code: str) -> bytes:
    """An error in OpenAI's shape, after which the proxy closes the connection."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    body = json.dumps({"error": error}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def chunk(data: bytes) -> bytes:
    """One piece of a body that comes in chunks."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
