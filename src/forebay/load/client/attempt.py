"""One turn of a session as its client asks it: through its attempts, to its record."""

from __future__ import annotations

from array import array

from forebay.load.client.client_exchange import Exchange
from forebay.load.plan import Message, Spoken
from forebay.measure import Outcome, RequestRecord
from forebay.wire import text_of, usage_of
from forebay.workload import Request, Session


class Attempt:
    """A request that was asked. Times are the clock's own seconds."""

    __slots__ = (
        "attempts", "current", "intended_s", "last", "message", "sent_s", "session", "spoken",
        "turn",
    )  # fmt: skip

    def __init__(
        self, session: Session, turn: int, message: Message, spoken: Spoken, intended_s: float
    ) -> None:
        self.session = session
        self.turn = turn
        self.message = message
        self.spoken = spoken
        self.intended_s = intended_s
        self.sent_s = 0.0
        self.attempts = 0
        self.current: Exchange | None = None  # its latest attempt
        self.last: tuple[Exchange, Outcome, str, float] | None = None

    @property
    def request(self) -> Request:
        """What is asked."""
        return self.session.turns[self.turn]

    @property
    def has_next(self) -> bool:
        """Whether its session goes on after it."""
        return self.turn + 1 < len(self.session.turns)

    def answer(self) -> str:
        """The answer's text, where it was kept."""
        assert self.last is not None
        exchange = self.last[0]
        return exchange.stream.text() if exchange.stream is not None else text_of(exchange.body)

    def record(self, origin_s: float) -> RequestRecord:
        """The record of its last attempt, its times relative to ``origin_s``."""
        assert self.last is not None
        exchange, outcome, reason, now = self.last
        stream, request = exchange.stream, self.request
        plain = stream is None and outcome == "ok"
        first = stream.first_s if stream is not None else (now if plain else None)
        last = stream.last_s if stream is not None else None
        usage = stream.usage() if stream is not None else usage_of(exchange.body) if plain else {}
        times = None
        if stream is not None and stream.times is not None:
            times = array("d", [time - origin_s for time in stream.times])
        return RequestRecord(
            index=self.session.number,
            intended_s=self.intended_s - origin_s,
            sent_s=self.sent_s - origin_s,
            first_byte_s=_since(exchange.first_byte_s, origin_s),
            first_token_s=_since(first, origin_s),
            last_token_s=_since(last, origin_s),
            ended_s=now - origin_s,
            status=exchange.status,
            outcome=outcome,
            tokens_out=usage.get("completion", stream.events if stream is not None else 0),
            prompt_tokens=usage.get("prompt", request.prompt_tokens),
            cached_tokens=usage.get("cached"),
            max_tokens=request.output_tokens,
            class_name=self.session.class_name,
            kind=self.session.kind,
            tenant=self.session.tenant,
            session=self.session.number,
            turn=self.turn,
            reason=reason,
            retry_after_s=exchange.retry_after_s,
            token_times=times,
            attempts=self.attempts,
        )


def _since(time_s: float | None, origin_s: float) -> float | None:
    return None if time_s is None else time_s - origin_s
