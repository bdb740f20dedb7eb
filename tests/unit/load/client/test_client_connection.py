"""The connection alone, on a transport that keeps what is written: no sockets, no time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mock_endpoint import DONE, ERROR, USAGE, event, plain, stream

from forebay.load.client import Attempt, Exchange, Pool
from forebay.load.client.client_connection import Connection
from forebay.load.plan import Message, Spoken, Target
from forebay.measure import RequestRecord
from forebay.workload import Request, Segment, Session

SESSION = Session(number=3, turns=(Request(segments=(Segment("p", 7),), output_tokens=5),))


class Wire(asyncio.Transport):
    """Keeps what was written; closing only sets a flag."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.gone = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.gone = True

    def abort(self) -> None:
        self.gone = True


class Bench:
    """One connection of a pool that opens no sockets, with a clock that counts its readings."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.pool = Pool(Target("test", 80, breath_s=0), self._clock)
        self.connection = Connection(self.pool)
        self.wire = Wire()
        self.connection.connection_made(self.wire)
        self._seconds = 0.0

    def ask(self) -> Exchange:
        message = Message(b"{}", request_id="r1", keep_text=True)
        self.asked = Attempt(SESSION, 0, message, Spoken(), 0.0)
        exchange = Exchange(message, 0.0, self._ended, self.asked)
        self.connection.start(exchange)
        return exchange

    def receive(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def _clock(self) -> float:
        self._seconds += 1.0
        return self._seconds

    def _ended(self, exchange: Exchange, outcome: Any, reason: str, now: float) -> None:
        exchange.owner.last = (exchange, outcome, reason, now)
        self.records.append(exchange.owner.record(0.0))


async def judged(*pieces: bytes, closed: bool = False) -> RequestRecord:
    """The record of one exchange answered by these pieces."""
    bench = Bench()
    bench.ask()
    bench.receive(*pieces)
    if closed:
        bench.connection.connection_lost(None)
    (record,) = bench.records
    return record


def facts(record: RequestRecord) -> tuple[object, ...]:
    """All of a record but its times."""
    return (
        record.outcome, record.status, record.tokens_out, record.prompt_tokens, record.reason,
        record.retry_after_s, record.cached_tokens, len(record.token_times or ()),
    )  # fmt: skip


REFUSAL = plain(
    429,
    b'{"error": {"message": "busy", "type": "overloaded", "code": null, "reason": "ttft"}}',
    "Retry-After: 3",
    "retry-after-ms: 2500",
)
RESPONSES = {
    "usage": stream(event("a"), event(" b"), USAGE, DONE),
    "no usage": stream(event("a"), event("é") + event("c"), DONE),
    "error": stream(event("a"), ERROR, DONE),
    "not done": stream(event("a")),
    "refusal": REFUSAL,
    "plain": plain(200, b'{"choices":[],"usage":{"completion_tokens":4}}'),
}


@given(
    name=st.sampled_from(sorted(RESPONSES)),
    cuts=st.lists(st.integers(0, 5000), max_size=40),
)
def test_where_a_response_is_split_changes_nothing(name: str, cuts: list[int]) -> None:
    data = b"".join(RESPONSES[name])
    edges = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    pieces = [data[start:end] for start, end in pairwise(edges)]
    assert facts(asyncio.run(judged(*pieces))) == facts(asyncio.run(judged(data)))


@pytest.mark.parametrize("name", sorted(RESPONSES))
async def test_byte_by_byte_is_the_same_as_whole(name: str) -> None:
    data = b"".join(RESPONSES[name])
    one_by_one = await judged(*(data[i : i + 1] for i in range(len(data))))
    assert facts(one_by_one) == facts(await judged(data))


async def test_a_stream_is_timed_to_its_tokens() -> None:
    head, first, second, *rest = stream(event(""), event("a"), event("b"), DONE)
    record = await judged(head + first, second, *rest)
    assert record.outcome == "ok"
    assert (record.first_byte_s, record.first_token_s, record.last_token_s) == (1.0, 2.0, 3.0)
    assert record.tokens_out == 2


async def test_the_servers_token_count_is_preferred() -> None:
    record = await judged(*RESPONSES["usage"])
    assert (record.tokens_out, record.prompt_tokens) == (5, 7)


async def test_a_plain_response_has_its_first_token_at_its_end() -> None:
    record = await judged(*RESPONSES["plain"])
    assert (record.outcome, record.tokens_out, record.first_token_s) == ("ok", 4, 1.0)
    assert record.tpot is None


async def test_a_refusal_says_why_and_when_to_return() -> None:
    record = await judged(*REFUSAL)
    assert (record.outcome, record.reason, record.retry_after_s) == ("shed", "ttft", 2.5)


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason"),
    [
        (429, b"slow down", "shed", "slow down"),
        (503, b'{"error": {"message": "engine busy"}}', "shed", "engine busy"),
        (503, b'{"error": {"message": "x", "code": "replica_failed"}}', "failed", "replica_failed"),
        (503, b'{"error": {"code": "deadline_exceeded"}}', "failed", "deadline_exceeded"),
        (503, b'{"error": {"code": "starting"}}', "shed", "starting"),
        (503, b"<html>no server</html>", "failed", "<html>no server</html>"),
        (500, b"", "failed", "HTTP 500"),
        (400, b'{"error": "bad prompt"}', "failed", "bad prompt"),
        (500, b'{"error": {"code": 500}}', "failed", "error"),
        (404, b'{"detail": "Not Found"}', "failed", '{"detail": "Not Found"}'),
    ],
)
async def test_which_answers_are_sheds(status: int, body: bytes, outcome: str, reason: str) -> None:
    record = await judged(*plain(status, body))
    assert (record.outcome, record.reason, record.status) == (outcome, reason, status)


async def test_an_error_inside_a_200_is_a_failure() -> None:
    record = await judged(*RESPONSES["error"])
    assert (record.outcome, record.status) == ("stream_error", 200)
    assert (record.reason, record.tokens_out) == ("Overloaded", 1)


async def test_a_stream_without_done_is_cut() -> None:
    assert (await judged(*RESPONSES["not done"])).outcome == "cut"


async def test_a_connection_closed_half_way_is_cut() -> None:
    record = await judged(*stream(event("a"), event("b"))[:-1], closed=True)
    assert (record.outcome, record.tokens_out) == ("cut", 2)
    assert "half-way" in record.reason


async def test_a_connection_closed_before_an_answer_is_dropped() -> None:
    record = await judged(closed=True)
    assert (record.outcome, record.status) == ("dropped", 0)
    assert "before any answer" in record.reason


async def test_a_body_without_length_ends_with_its_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    assert (await judged(head + event("a") + DONE, closed=True)).outcome == "ok"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("Retry-After: 1.5", 1.5), ("retry-after-ms: 12.5", 0.0125), ("Retry-After: inf", None),
     ("Retry-After: -1", None)],
)  # fmt: skip
async def test_a_wait_is_read_with_its_decimals(header: str, seconds: float | None) -> None:
    assert (await judged(*plain(429, b"", header))).retry_after_s == seconds


async def test_a_retry_after_date_is_not_guessed_at() -> None:
    record = await judged(*plain(429, b"", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"))
    assert record.retry_after_s is None


async def test_a_continue_announces_the_real_response() -> None:
    record = await judged(b"HTTP/1.1 100 Continue\r\n\r\n", *RESPONSES["usage"])
    assert (record.outcome, record.status) == ("ok", 200)


async def test_a_connection_closed_within_the_head_is_cut() -> None:
    assert (await judged(b"HTTP/1.1 200 OK\r\nconte", closed=True)).outcome == "cut"


async def test_a_page_instead_of_a_completion_is_malformed() -> None:
    record = await judged(*plain(200, b"<html>sign in</html>"))
    assert (record.outcome, record.reason) == (
        "malformed",
        "not a completion: <html>sign in</html>",
    )


async def test_cached_tokens_are_read_where_the_server_tells_them() -> None:
    usage = (
        b'data: {"choices":[],"usage":{"prompt_tokens":70,"completion_tokens":1,'
        b'"prompt_tokens_details":{"cached_tokens":64}}}\n\n'
    )
    record = await judged(*stream(event("a"), usage, DONE))
    assert (record.prompt_tokens, record.cached_tokens) == (70, 64)


@pytest.mark.parametrize("name", ["usage", "no usage"])
async def test_the_text_of_an_answer_is_kept_for_the_next_turn(name: str) -> None:
    bench = Bench()
    bench.ask()
    bench.receive(*RESPONSES[name])
    assert bench.asked.answer() == {"usage": "a b", "no usage": "aéc"}[name]


async def test_a_server_may_forbid_another_attempt() -> None:
    bench = Bench()
    exchange = bench.ask()
    bench.receive(*plain(429, b"", "X-Should-Retry: false"))
    assert exchange.no_retry


async def test_what_is_not_http_is_malformed_and_closes() -> None:
    bench = Bench()
    bench.ask()
    bench.receive(b"SSH-2.0-OpenSSH\r\n")
    assert bench.records[0].outcome == "malformed"
    assert bench.wire.gone


async def test_a_server_that_speaks_out_of_turn_is_dropped() -> None:
    bench = Bench()
    bench.receive(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert bench.wire.gone


async def test_a_connection_carries_one_request_after_another() -> None:
    bench = Bench()
    for name in ("error", "refusal", "plain", "usage"):
        bench.ask()
        bench.receive(*RESPONSES[name])
    assert [r.outcome for r in bench.records] == ["stream_error", "shed", "ok", "ok"]
    assert not bench.wire.gone


async def test_a_connection_that_is_to_close_is_not_used_again() -> None:
    bench = Bench()
    bench.ask()
    bench.receive(*plain(429, b"", "Connection: close"))
    assert bench.wire.gone


async def test_the_request_is_a_whole_http_request() -> None:
    bench = Bench()
    bench.ask()
    head, body = bench.wire.written.split(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: test:80\r\n")
    assert head.endswith(b"\r\nX-Request-Id: r1\r\nContent-Length: 2")
    assert body == b"{}"


async def test_the_first_outcome_stays() -> None:
    bench = Bench()
    exchange = bench.ask()
    exchange.end("timeout", "", 1.0)
    exchange.end("ok", "", 2.0)
    assert [r.outcome for r in bench.records] == ["timeout"]
