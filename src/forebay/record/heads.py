"""Heads of requests as they go upstream, and the proxy's own answers.

A client's connection and the one upstream live and die as a pair, so an answer is passed on byte
by byte, its head included: what it says of the connection is true of both. A request's head is
written anew, for it names the proxy as its host, and may ask for what cannot be passed on.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from forebay.record.answers import READABLE
from forebay.wire import FRAMING, Head, Target, error_body, response

# Of this connection alone (RFC 9110, section 7.6.1), or written anew.
_NOT_PASSED_ON = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te",
        b"trailer", b"upgrade", b"host",
    }
)  # fmt: skip


def target_of(url: str) -> Target:
    """The endpoint behind the proxy, from ``http[s]://host[:port][/base]``.

    Raises:
        ValueError: it is no such URL. The message does not repeat it.
    """
    target, parts = Target.from_url(url), urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a URL with credentials, a query or a fragment cannot be proxied to")
    if not target.url.isascii():
        raise ValueError("not a URL in ASCII")
    return target


def for_upstream(head: Head, target: Target, *, watched: bool) -> bytes:
    """A request's head as it is sent on.

    Args:
        head: as it came.
        target: where to.
        watched: whether the answer is looked into, and must not be packed in a way that is not
            readable.
    """
    path = head.target
    if path.startswith(b"/"):  # else `*`, or a whole URL
        path = target.base_path.encode() + path
    lines = [
        b"%b %b HTTP/%b" % (head.method, path, head.version.encode("ascii")),
        b"host: " + target.authority.encode(),
        *(b"%b: %b" % header for header in _passed_on(head, watched)),
    ]
    if not head.keep_alive:
        lines.append(b"connection: close")
    elif head.version == "1.0":
        lines.append(b"connection: keep-alive")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _passed_on(head: Head, watched: bool) -> list[tuple[bytes, bytes]]:
    said = b",".join(value for name, value in head.headers if name == b"connection")
    named = {name.strip().lower() for name in said.split(b",")}
    dropped = _NOT_PASSED_ON | (named - FRAMING)
    kept = [(name, value) for name, value in head.headers if name not in dropped]
    if not watched:
        return kept
    return [
        (name, _readable(value) if name == b"accept-encoding" else value) for name, value in kept
    ]


def _readable(value: bytes) -> bytes:
    """An Accept-Encoding with those encodings alone that can be looked into."""
    offered = [part.strip() for part in value.split(b",")]
    kept = [part for part in offered if part.partition(b";")[0].strip().lower() in READABLE]
    return b", ".join(kept) or b"identity"


def own_answer(status: HTTPStatus, message: str, code: str) -> bytes:
    """An error in OpenAI's shape, after which the proxy closes the connection."""
    return response(status, error_body(status, message, code), headers=[("connection", "close")])
