"""What is sent, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forebay import wire

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
class Target(wire.Target):
    """The endpoint under test.

    Attributes:
        keepalive_s: an idle connection older than this is not used again. Below the 5 s after
            which uvicorn closes one, so that a send never races with that close.
        keep_token_times: keep the arrival of every content event in the records.
        breath_s: pause after each read, see `Pool.breathe_soon`; 0 for none.
    """

    keepalive_s: float = 2.0
    keep_token_times: bool = True
    breath_s: float = 0.0007


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
            "Host": target.host_and_port,
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
