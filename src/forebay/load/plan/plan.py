"""What is sent, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Message:
    """One HTTP request, its body already encoded.

    Attributes:
        body: the JSON body.
        path: URL path.
        headers: headers beyond those every request carries.
        keep_text: keep the answer's text, since a later turn repeats it.
        request_id: sent as ``X-Request-Id``; the same for every attempt at one request.
    """

    body: bytes
    path: str = "/v1/completions"
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    keep_text: bool = False
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """The endpoint under test.

    Attributes:
        host: name or address.
        port: TCP port.
        tls: whether to speak HTTPS (certificates are verified).
        base_path: put before every request's path.
        keepalive_s: an idle connection older than this is not used again. Below the 5 s after
            which uvicorn closes one, so that a send never races with that close.
        keep_token_times: keep the arrival of every content event in the records.
        breath_s: pause after each read, see `Pool.breathe_soon`; 0 for none.
    """

    host: str
    port: int
    tls: bool = False
    base_path: str = ""
    keepalive_s: float = 2.0
    keep_token_times: bool = True
    breath_s: float = 0.0007

    @property
    def authority(self) -> str:
        """What a Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def from_url(cls, url: str, *, keep_token_times: bool = True) -> Target:
        """Reads ``http[s]://host[:port][/base]``.

        Raises:
            ValueError: when it is not such a URL.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http(s) URL: {url!r}")
        tls = parts.scheme == "https"
        return cls(
            host=parts.hostname,
            port=parts.port or (443 if tls else 80),
            tls=tls,
            base_path=parts.path.rstrip("/"),
            keep_token_times=keep_token_times,
        )


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
    Target.from_url(base)
    return base


class WireFormat:
    """Turns messages into HTTP/1.1 bytes, with the constant part of the head cached."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._heads: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}

    def encode(self, message: Message) -> bytes:
        """The whole request: head and body.

        Raises:
            ValueError: when a path or header holds a line break.
        """
        key = (message.path, tuple(message.headers.items()))
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = self._head(message)
        body, request_id = message.body, message.request_id.encode("ascii")
        return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (head, request_id, len(body), body)

    def _head(self, message: Message) -> bytes:
        target = self._target
        fields = {
            "Host": target.authority,
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
        }
        # Names differ in case and are the same: what is asked for later goes before.
        chosen = {
            name.lower(): f"{name}: {value}"
            for name, value in (*fields.items(), *message.headers.items())
        }
        lines = [f"POST {target.base_path}{message.path} HTTP/1.1", *chosen.values()]
        for line in lines:
            if "\r" in line or "\n" in line:
                raise ValueError("a line break in a request line or header")  # maybe in a key
        return ("\r\n".join(lines) + "\r\nX-Request-Id: ").encode("latin-1")
