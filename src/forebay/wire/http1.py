"""HTTP/1.1 messages: their heads as httptools reads them, and the bytes that are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_EVENT_STREAM = b"text/event-stream"


@dataclass(slots=True)
class Head:
    """A message's head. Names of headers are in lower case.

    Attributes:
        method, target: of a request, as they came.
        version: of HTTP.
        keep_alive: whether the connection may carry another message after it.
        headers: in the order in which they came.
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
        """The headers that say where the body ends; without any, a response's close does."""
        return [header for header in self.headers if header[0] in FRAMING]

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return bool(self.value(b"transfer-encoding"))

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is a stream of events."""
        return self.value(b"content-type").startswith(_EVENT_STREAM)

    @property
    def waits(self) -> bool:
        """Whether the body comes only when it was asked for."""
        return self.value(b"expect").strip().lower() == b"100-continue"


class HeadReader:
    """What httptools calls while it reads heads; who is to be told of bodies derives from it.

    Attributes:
        head: of the message that is being read, or was read last.
        in_head: whether it is still coming; what comes after it are trailers, and dropped.
    """

    def __init__(self) -> None:
        self.head = Head()
        self.in_head = False

    def on_message_begin(self) -> None:
        """A message begins."""
        self.head, self.in_head = Head(), True

    def on_url(self, url: bytes) -> None:
        """A piece of a request's target."""
        self.head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if self.in_head:
            self.head.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head is here."""
        self.in_head = False


def chunk(data: bytes) -> bytes:
    """One piece of a body that comes in chunks."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def response(
    status: int,
    body: bytes,
    content_type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> bytes:
    """A whole response with a length."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"content-type: {content_type}",
        *(f"{name}: {value}" for name, value in headers),
        f"content-length: {len(body)}",
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
