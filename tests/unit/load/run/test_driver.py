"""Both loops against a scripted server on a real socket. Nothing here asserts a duration."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count, pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_endpoint import DONE, ERROR, GOOD, USAGE, Endpoint, Reply, endpoint, event, plain, stream
from sessions import Numbered, conversation, single, singles

from forebay.load.plan import Target
from forebay.load.run.driver import Settings, play_closed_loop, play_open_loop
from forebay.load.run.progress import Progress
from forebay.load.run.retries import RetryPolicy
from forebay.measure import RequestRecord
from forebay.workload import Session

LONG_S = 30.0
HANG = Reply((), "hang")
FAULTS = {
    "ok": GOOD,
    "shed": Reply(plain(429, b'{"error": {"message": "later"}}', "Retry-After: 2")),
    "failed": Reply(plain(500, b"")),
    "stream_error": Reply(stream(event("a"), ERROR, DONE)),
    "cut": Reply(stream(event("a"), event("b"))[:-1], "close"),
    "dropped": Reply((), "close"),
    "malformed": Reply([b"SSH-2.0-OpenSSH\r\n"], "close"),
}


def settings_of(url: str, **more: Any) -> Settings:
    return Settings(target=Target.from_url(url), maker=Numbered(), **{"timeout_s": LONG_S, **more})


async def play(server: Endpoint, schedule: Sequence[Session], **more: Any) -> list[RequestRecord]:
    return (await play_open_loop(settings_of(server.url, **more), schedule)).records


async def open_loop(server: Endpoint, count: int, **more: Any) -> list[RequestRecord]:
    return await play(server, singles(count), **more)


async def closed_loop(
    server: Endpoint, clients: int, most: int, **more: Any
) -> list[RequestRecord]:
    """Runs until ``most`` requests were made, then is cancelled from inside."""
    task = asyncio.current_task()
    assert task is not None

    def stream_of() -> Iterator[Session]:
        for number in count():
            if number == most:
                task.cancel()
            yield single(number)

    settings = settings_of(server.url, **more)
    return (await play_closed_loop(settings, stream_of(), clients, LONG_S)).records


async def test_each_request_is_sent_and_recorded_in_order() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await play(server, singles(5, gap_s=0.01))
    assert [record.session for record in records] == [0, 1, 2, 3, 4]
    assert [record.intended_s for record in records] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04])
    assert sorted(server.requests) == [b'["s%d"]' % i for i in range(5)]
    for record in records:
        assert (record.outcome, record.tokens_out, len(record.token_times or ())) == ("ok", 3, 3)
        assert record.client_lag >= 0
        assert record.sent_s <= (record.first_byte_s or 0) <= (record.first_token_s or 0)
        assert (record.first_token_s or 0) <= (record.last_token_s or 0) <= record.ended_s


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=12))
def test_every_fault_is_counted_in_its_own_class(faults: list[str]) -> None:
    async def run() -> list[RequestRecord]:
        async with endpoint(lambda n: FAULTS[faults[n]]) as server:
            return await open_loop(server, len(faults))

    assert Counter(r.outcome for r in asyncio.run(run())) == Counter(faults)


async def test_a_response_byte_by_byte_counts_the_same() -> None:
    data = b"".join(stream(event("a"), event("é"), USAGE, DONE))
    async with endpoint(lambda _: Reply([data[i : i + 1] for i in range(len(data))])) as server:
        (record,) = await open_loop(server, 1)
    assert (record.outcome, record.tokens_out, len(record.token_times or ())) == ("ok", 5, 2)


async def test_several_events_in_one_chunk_are_several_tokens() -> None:
    async with endpoint(lambda _: Reply(stream(event("a") * 7, event("b") + DONE))) as server:
        (record,) = await open_loop(server, 1)
    assert record.tokens_out == 8


async def test_a_refusal_carries_its_retry_after() -> None:
    async with endpoint(lambda _: FAULTS["shed"]) as server:
        (record,) = await open_loop(server, 1)
    assert (record.outcome, record.reason, record.retry_after_s) == ("shed", "later", 2.0)


async def test_a_server_that_never_answers_times_out() -> None:
    async with endpoint(lambda n: HANG if n == 0 else GOOD) as server:
        records = await open_loop(server, 2, timeout_s=0.05)
    assert sorted(r.outcome for r in records) in (["ok", "timeout"], ["timeout", "timeout"])


async def test_a_stream_that_stops_times_out_with_what_it_gave() -> None:
    halted = Reply(stream(event("a"), event("b"))[:-1], "hang")
    async with endpoint(lambda _: halted) as server:
        (record,) = await open_loop(server, 1, timeout_s=0.2)
    assert (record.outcome, record.status, record.tokens_out) == ("timeout", 200, 2)


async def test_nobody_listening_is_a_refused_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: the kernel refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        records = (await play_open_loop(settings_of(url), singles(3))).records
    assert [r.outcome for r in records] == ["refused_connection"] * 3
    assert "refused" in records[0].reason.lower()


async def test_a_host_without_address_is_a_refused_connection() -> None:
    played = await play_open_loop(settings_of("http://no-such-host.invalid"), singles(1))
    (record,) = played.records
    assert record.outcome == "refused_connection"


async def test_connections_are_used_again() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await closed_loop(server, clients=1, most=20)
    assert len(server.requests) >= 20
    assert server.connections == 1
    assert all(record.outcome in ("ok", "stopped") for record in records)


async def test_a_closed_loop_keeps_its_clients_busy_and_no_more() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await closed_loop(server, clients=4, most=40)
    assert server.most_active <= 4
    assert server.connections <= 4
    assert [record.session for record in records] == list(range(len(records)))


async def test_a_closed_loop_ends_with_its_time() -> None:
    async with endpoint(lambda _: GOOD) as server:
        played = await play_closed_loop(settings_of(server.url), map(single, count()), 2, 0.1)
    records = played.records
    assert records
    assert {record.outcome for record in records} == {"ok"}


async def test_a_closed_loop_goes_on_after_refusals() -> None:
    async with endpoint(lambda n: FAULTS["shed"] if n < 3 else GOOD) as server:
        records = await closed_loop(server, clients=1, most=6)
    assert [r.outcome for r in records[:5]] == ["shed"] * 3 + ["ok"] * 2


async def test_cancelling_returns_what_was_measured() -> None:
    async with endpoint(lambda n: GOOD if n == 0 else HANG) as server:
        schedule = [*singles(2), single(2, at_s=3600.0)]
        run = asyncio.create_task(play(server, schedule))
        while len(server.requests) < 2:
            server.asked.clear()
            await server.asked.wait()
        run.cancel()
        records = await run
    assert len(records) == 2  # the third was not due
    assert {r.outcome for r in records} <= {"ok", "stopped"}


async def test_a_conversation_is_asked_turn_by_turn_with_its_history() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await play(server, [conversation(0, turns=3, think_s=0.02)])
    assert [json.loads(body) for body in server.requests] == [
        ["s0t0"],
        ["s0t0", "a b c", "s0t1"],
        ["s0t0", "a b c", "s0t1", "a b c", "s0t2"],
    ]
    assert [(record.turn, record.prompt_tokens) for record in records] == [(0, 7), (1, 19), (2, 31)]
    for before, after in pairwise(records):
        assert after.intended_s == pytest.approx(before.ended_s + 0.02)
        assert after.sent_s >= after.intended_s


async def test_a_conversation_ends_where_a_turn_is_not_served() -> None:
    async with endpoint(lambda n: GOOD if n == 0 else FAULTS["shed"]) as server:
        records = await play(server, [conversation(0, turns=3)])
    assert [record.outcome for record in records] == ["ok", "shed"]


async def test_no_turn_is_asked_after_the_end() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await play(server, [conversation(0, turns=3, think_s=3600.0)], until_s=60.0)
    assert [record.turn for record in records] == [0]


async def test_a_client_that_leaves_is_cancelled_and_no_failure() -> None:
    async with endpoint(lambda _: HANG) as server:
        (record,) = await play(server, [single(0, cancel_after_s=0.02)])
    assert (record.outcome, record.failure) == ("cancelled", False)


@pytest.mark.parametrize(
    ("again_ms", "then", "attempts"),
    [(300, GOOD, 1), (1, HANG, 2)],
    ids=["between two attempts", "within the second"],
)
async def test_a_client_leaves_when_its_time_is_over_whatever_attempt_it_waits_for(
    again_ms: int, then: Reply, attempts: int
) -> None:
    refusal = Reply(plain(429, b"", f"retry-after-ms: {again_ms}"))
    async with endpoint(lambda n: refusal if n == 0 else then) as server:
        leaving = [single(0, cancel_after_s=0.1)]
        (record,) = await play(server, leaving, retries=RetryPolicy(3))
    assert (record.outcome, record.attempts) == ("cancelled", attempts)
    assert len(server.requests) == attempts


def test_nothing_is_sent_before_its_time_by_a_loop_that_wakes_early() -> None:
    """As uvloop's does, by up to a millisecond and a half."""

    async def run() -> list[RequestRecord]:
        refusal = Reply(plain(429, b"", "retry-after-ms: 20"))
        async with endpoint(lambda n: refusal if n % 2 else GOOD) as server:
            talks = [conversation(0, turns=9, think_s=0.0204)]
            records = await play(server, talks, retries=RetryPolicy(2))
            origin_s = time.perf_counter() + 0.0504
            return [*records, *await closed_loop(server, clients=2, most=40, origin_s=origin_s)]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        records = runner.run(run())
    assert len(records) > 40
    assert min(record.client_lag for record in records) >= 0
    assert min(record.intended_s for record in records) >= 0


async def test_a_client_that_would_leave_later_is_served() -> None:
    async with endpoint(lambda _: GOOD) as server:
        (record,) = await play(server, [single(0, cancel_after_s=LONG_S)])
    assert record.outcome == "ok"


async def test_a_refused_request_is_sent_again_and_counted_once() -> None:
    refusal = Reply(plain(429, b"", "retry-after-ms: 10"))
    async with endpoint(lambda n: refusal if n < 2 else GOOD) as server:
        (record,) = await open_loop(server, 1, retries=RetryPolicy(3))
    assert (record.outcome, record.attempts) == ("ok", 3)
    assert record.sent_s < record.ended_s - 0.02
    counts = [head.lower().count(b"x-stainless-retry-count") for head in server.heads]
    assert counts == [0, 1, 1]
    ids = {line for head in server.heads for line in head.split(b"\r\n") if b"X-Request-Id" in line}
    assert len(ids) == 1


async def test_the_last_refusal_stands_when_attempts_are_used_up() -> None:
    refusal = Reply(plain(429, b"", "retry-after-ms: 1"))
    async with endpoint(lambda _: refusal) as server:
        (record,) = await open_loop(server, 1, retries=RetryPolicy(3))
    assert (record.outcome, record.attempts, len(server.requests)) == ("shed", 3, 3)


async def test_an_answer_that_was_begun_is_not_asked_for_again() -> None:
    async with endpoint(lambda _: FAULTS["cut"]) as server:
        (record,) = await open_loop(server, 1, retries=RetryPolicy(3))
    assert (record.outcome, record.attempts) == ("cut", 1)


async def test_progress_adds_up() -> None:
    seen: list[Progress] = []
    schedule = [*singles(3), single(3, at_s=1.2)]
    async with endpoint(lambda n: FAULTS["shed"] if n == 0 else GOOD) as server:
        await play(server, schedule, on_tick=seen.append)
    tick = seen[0]
    assert tick.offered == tick.in_flight + tick.ok + tick.shed + tick.failed
    assert (tick.shed, tick.ok, tick.tokens) == (1, 2, 6)
    assert tick.ttft_p50 is not None
    assert tick.lag_p99 is not None


async def test_who_left_by_its_own_will_is_no_error_of_the_progress() -> None:
    seen: list[Progress] = []
    schedule = [single(0, cancel_after_s=0.02), single(1, at_s=1.2)]
    async with endpoint(lambda n: HANG if n == 0 else GOOD) as server:
        await play(server, schedule, on_tick=seen.append)
    assert (seen[0].offered, seen[0].failed) == (1, 0)


async def test_garbage_collection_is_back_on_afterwards() -> None:
    assert gc.isenabled()
    async with endpoint(lambda _: GOOD) as server:
        await open_loop(server, 1)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


async def test_an_empty_schedule_gives_no_record() -> None:
    async with endpoint(lambda _: GOOD) as server:
        assert await open_loop(server, 0) == []


async def test_a_closed_loop_without_clients_is_refused() -> None:
    with pytest.raises(ValueError, match="client"):
        await play_closed_loop(settings_of("http://x:1"), map(single, count()), 0, 1.0)


async def test_a_server_that_closes_idle_connections_costs_nothing() -> None:
    closing = Reply(stream(event("a"), DONE), "close")  # keep-alive promised, then closed
    async with endpoint(lambda _: closing) as server:
        records = await play(server, singles(3, gap_s=0.1))
    assert [record.outcome for record in records] == ["ok"] * 3
