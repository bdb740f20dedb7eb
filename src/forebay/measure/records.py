"""What one request experienced, and the latencies derived from it.

Every headline latency counts from the *intended* send time, the instant the schedule asked for.
Counting from the actual send would hide the wait whenever the client, or the server's back
pressure on it, delays a send.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Outcome = Literal[
    "ok",
    "shed",
    "failed",
    "stream_error",
    "cut",
    "dropped",
    "malformed",
    "timeout",
    "refused_connection",
    "no_socket",
    "cancelled",
    "stopped",
]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# What is neither served, nor refused for load, nor given up by the client's own will.
FAILURES: frozenset[Outcome] = frozenset(OUTCOMES) - {"ok", "shed", "cancelled", "stopped"}
_NEVER_TAKEN_UP = frozenset({"shed", "refused_connection", "no_socket"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request as its client saw it. Times are seconds since the start of the run.

    A request that its client sent again after a refusal is still one request: its times are those
    of the last attempt, except `intended_s` and `sent_s`, which are the first one's.

    Attributes:
        index: position in the schedule, from 0.
        intended_s: when the schedule asked for the request to be sent.
        sent_s: when the client began to send it (a write, or a connect where none was open).
        first_byte_s: first byte of the response, of whatever status.
        first_token_s: first content token; None when none came.
        last_token_s: last content token of a stream; None for a plain (not streamed) response,
            whose single tokens are not observed.
        ended_s: when its outcome was known.
        status: HTTP status, 0 when no response came.
        outcome: ``ok`` finished; ``shed`` refused for load (429, or an OpenAI-style 503);
            ``failed`` any other HTTP error; ``stream_error`` an error inside a stream already
            answered with 200; ``cut`` the response stopped half-way; ``dropped`` the connection
            closed before any answer; ``malformed`` not HTTP, or not what was asked for;
            ``timeout``; ``refused_connection`` the other side took no connection; ``no_socket``
            this machine gave none (file limit, ports); ``cancelled`` the client left as its
            workload says; ``stopped`` the run was ended before.
        tokens_out: tokens the server reported, else content events counted.
        prompt_tokens: prompt length the server reported, else the planned one.
        max_tokens: output length asked for.
        class_name: traffic class.
        reason: shed reason or error text, empty when ok.
        retry_after_s: wait that the last refusal asked for.
        token_times: arrival of each content event, when kept.
        attempts: times it was sent; 1 unless retries are on.
        cached_tokens: prompt tokens found in the prefix cache, where the server says so.
        kind: which of the workload's kinds of request it is.
        tenant: whose it is.
        session: number of its session in the schedule; a conversation is a session of turns.
        turn: its place in the session, from 0.
    """

    index: int
    intended_s: float
    sent_s: float
    ended_s: float
    status: int
    outcome: Outcome
    first_byte_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    tokens_out: int = 0
    prompt_tokens: int = 0
    max_tokens: int = 0
    class_name: str = ""
    reason: str = ""
    retry_after_s: float | None = None
    token_times: Sequence[float] | None = None
    attempts: int = 1
    cached_tokens: int | None = None
    kind: str = ""
    tenant: str = ""
    session: int = 0
    turn: int = 0

    @property
    def ttft(self) -> float | None:
        """Seconds from the intended send to the first content token."""
        return None if self.first_token_s is None else self.first_token_s - self.intended_s

    @property
    def tpot(self) -> float | None:
        """Seconds per output token after the first; undefined for a single token."""
        if self.first_token_s is None or self.last_token_s is None or self.tokens_out < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.tokens_out - 1)

    @property
    def e2e(self) -> float:
        """Seconds from the intended send to the end."""
        return self.ended_s - self.intended_s

    @property
    def client_lag(self) -> float:
        """Seconds by which the client itself was late: actual minus intended send."""
        return self.sent_s - self.intended_s

    @property
    def admitted(self) -> bool:
        """Taken up by the server: neither shed nor answered with an HTTP error.

        A request without any answer (timeout, dropped) counts: it was not refused.
        """
        return self.outcome not in _NEVER_TAKEN_UP and self.status < 300

    @property
    def failure(self) -> bool:
        """Neither served, nor refused for load, nor given up by the client's own will."""
        return self.outcome in FAILURES

    def is_good(self, slo_ttft: float, slo_tpot: float | None = None) -> bool:
        """Whether it finished within every SLO (seconds); an undefined TPOT misses none."""
        if self.outcome != "ok" or self.ttft is None or self.ttft > slo_ttft:
            return False
        return slo_tpot is None or self.tpot is None or self.tpot <= slo_tpot
