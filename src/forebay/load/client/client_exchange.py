"""One attempt at one request: what has been seen of it so far, and how it is judged at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forebay.load.plan import Message
from forebay.measure import Outcome
from forebay.wire import TokenStream, error_in

if TYPE_CHECKING:
    from forebay.load.client.client_connection import Connection

_LONGEST_REASON = 300
# Codes of a Forebay's 503 that is no refusal: it had let the request in, or its engine is dead.
_FAILURES = ("replica_failed", "deadline_exceeded")


class Exchange:
    """An HTTP request in flight. Times are the clock's own seconds.

    It ends exactly once, by `end`; whatever comes later is ignored.
    """

    __slots__ = (
        "_on_end", "body", "connection", "ended", "first_byte_s", "message", "no_retry", "owner",
        "retry_after_s", "sent_s", "status", "stream",
    )  # fmt: skip

    def __init__(
        self,
        message: Message,
        sent_s: float,
        on_end: Callable[[Exchange, Outcome, str, float], None],
        owner: Any = None,
    ) -> None:
        self.message = message
        self.sent_s = sent_s
        self.owner = owner
        self.first_byte_s: float | None = None
        self.status = 0
        self.retry_after_s: float | None = None
        self.no_retry = False
        self.stream: TokenStream | None = None
        self.body = bytearray()
        self.connection: Connection | None = None
        self.ended = False
        self._on_end = on_end

    def end(self, outcome: Outcome, reason: str, now: float) -> None:
        """Fixes the outcome at ``now``, once."""
        if not self.ended:
            self.ended = True
            self.connection = None
            self._on_end(self, outcome, reason, now)

    def give_up(self, outcome: Outcome, reason: str, now: float) -> None:
        """Ends it by the client's own will: the connection is closed."""
        connection = self.connection
        if connection is not None:
            connection.abort()
        self.end(outcome, reason, now)

    def complete(self, now: float) -> None:
        """The whole HTTP response is here: judge it."""
        if self.stream is not None:
            self.stream.finish(now)
        self.end(*self._verdict(), now)

    def _verdict(self) -> tuple[Outcome, str]:
        if self.status == 200:
            return self._verdict_on_stream() if self.stream is not None else self._verdict_on_body()
        error = error_in(self.body)
        reason = _reason(error) if error is not None else _text(self.body)
        # A bare 503 comes from a proxy without a server; an application that refuses says so.
        refused = self.status == 503 and error is not None and reason not in _FAILURES
        outcome: Outcome = "shed" if self.status == 429 or refused else "failed"
        return outcome, reason or f"HTTP {self.status}"

    def _verdict_on_body(self) -> tuple[Outcome, str]:
        if b'"choices"' in self.body:
            return "ok", ""
        return "malformed", f"not a completion: {_text(self.body[:80])}"

    def _verdict_on_stream(self) -> tuple[Outcome, str]:
        assert self.stream is not None
        if self.stream.error is not None:
            error = error_in(self.stream.error)
            reason = _reason(error) if error is not None else _text(self.stream.error)
            return "stream_error", reason
        if not self.stream.done:
            return "cut", "the stream ended without [DONE]"
        return "ok", ""


def _reason(error: dict[str, Any]) -> str:
    """The most machine-readable text that an error object holds."""
    for key in ("reason", "code", "type", "message"):
        value = error.get(key)
        if isinstance(value, str) and value:
            return value[:_LONGEST_REASON]
    return "error"


def _text(body: bytes | bytearray) -> str:
    return bytes(body[:_LONGEST_REASON]).decode("utf-8", "replace").strip()
