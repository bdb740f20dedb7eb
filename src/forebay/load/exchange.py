"""One request on its way: what has been seen of it so far, and how it is judged at the end."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forebay.load.plan import PlannedRequest
from forebay.load.sse import TokenStream, usage_of
from forebay.measure.records import Outcome, RequestRecord

if TYPE_CHECKING:
    from forebay.load.connection import Connection

_LONGEST_REASON = 300


class Exchange:
    """A request in flight. Times are the clock's own seconds until `record` makes them relative.

    It ends exactly once, by `end`; whatever comes later is ignored.
    """

    __slots__ = (
        "_on_end", "body", "connection", "ended", "first_byte_s", "index", "intended_s", "planned",
        "retry_after_s", "sent_s", "status", "stream",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        planned: PlannedRequest,
        intended_s: float,
        sent_s: float,
        on_end: Callable[[Exchange, Outcome, str, float], None],
    ) -> None:
        self.index = index
        self.planned = planned
        self.intended_s = intended_s
        self.sent_s = sent_s
        self.first_byte_s: float | None = None
        self.status = 0
        self.retry_after_s: float | None = None
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

    def complete(self, now: float) -> None:
        """The whole HTTP response is here: judge it."""
        if self.stream is not None:
            self.stream.finish(now)
        self.end(*self._verdict(), now)

    def _verdict(self) -> tuple[Outcome, str]:
        if self.status == 200:
            return self._verdict_on_stream() if self.stream is not None else ("ok", "")
        error = _openai_error(self.body)
        reason = _reason(error) if error is not None else _text(self.body)
        # A bare 503 comes from a proxy without a server; an application that refuses says so.
        if self.status == 429 or (self.status == 503 and error is not None):
            return "shed", reason
        return "failed", reason or f"HTTP {self.status}"

    def _verdict_on_stream(self) -> tuple[Outcome, str]:
        assert self.stream is not None
        if self.stream.error is not None:
            error = _openai_error(self.stream.error)
            return "failed", _reason(error) if error is not None else _text(self.stream.error)
        if not self.stream.done:
            return "cut", "the stream ended without [DONE]"
        return "ok", ""

    def record(self, outcome: Outcome, reason: str, now: float, origin_s: float) -> RequestRecord:
        """The finished record, its times relative to ``origin_s`` on the same clock."""
        stream, planned = self.stream, self.planned
        plain = stream is None and outcome == "ok"
        first = stream.first_s if stream is not None else (now if plain else None)
        last = stream.last_s if stream is not None else None
        usage = stream.usage() if stream is not None else usage_of(self.body) if plain else {}
        times = None
        if stream is not None and stream.times is not None:
            times = array("d", [time - origin_s for time in stream.times])
        return RequestRecord(
            index=self.index,
            intended_s=self.intended_s - origin_s,
            sent_s=self.sent_s - origin_s,
            first_byte_s=None if self.first_byte_s is None else self.first_byte_s - origin_s,
            first_token_s=None if first is None else first - origin_s,
            last_token_s=None if last is None else last - origin_s,
            ended_s=now - origin_s,
            status=self.status,
            outcome=outcome,
            tokens_out=usage.get("completion", stream.events if stream is not None else 0),
            prompt_tokens=usage.get("prompt", planned.prompt_tokens),
            max_tokens=planned.max_tokens,
            class_name=planned.class_name,
            reason=reason,
            retry_after_s=self.retry_after_s,
            token_times=times,
            error_in_stream=stream is not None and stream.error is not None,
        )


def _openai_error(body: bytes | bytearray) -> dict[str, Any] | None:
    """The ``error`` object of an OpenAI-style body; None when it is not one."""
    try:
        decoded = json.loads(body)
    except ValueError:
        return None
    error = decoded.get("error") if isinstance(decoded, dict) else None
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else None


def _reason(error: dict[str, Any]) -> str:
    """The most machine-readable text that an error object holds."""
    for key in ("reason", "code", "type", "message"):
        value = error.get(key)
        if isinstance(value, str) and value:
            return value[:_LONGEST_REASON]
    return "error"


def _text(body: bytes | bytearray) -> str:
    return bytes(body[:_LONGEST_REASON]).decode("utf-8", "replace").strip()
