"""Both loops against a scripted server on a real socket. Nothing here asserts a duration."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_endpoint import DONE, ERROR, GOOD, USAGE, Endpoint, Reply, endpoint, event, plain, stream

from forebay.load.driver import CLIENT_STOPPED, run_closed_loop, run_open_loop
from forebay.load.plan import PlannedRequest, Target
from forebay.load.progress import Progress
from forebay.measure.records import RequestRecord

LONG_S = 30.0
HANG = Reply((), "hang")
FAULTS = {
    "ok": GOOD,
    "shed": Reply(plain(429, b'{"error": {"message": "later"}}', "Retry-After: 2")),
    "failed": Reply(stream(event("a"), ERROR, DONE)),
    "cut": Reply(stream(event("a"), event("b"))[:-1], "close"),
}


def planned(count: int, gap_s: float = 0.0) -> list[PlannedRequest]:
    return [PlannedRequest(at_s=i * gap_s, body=b'{"i": %d}' % i) for i in range(count)]


async def open_loop(
    server: Endpoint, count: int, *, timeout_s: float = LONG_S
) -> list[RequestRecord]:
    return await run_open_loop(Target.from_url(server.url), planned(count), timeout_s=timeout_s)


async def closed_loop(server: Endpoint, clients: int, most: int) -> list[RequestRecord]:
    """Runs until ``most`` requests were made, then is cancelled from inside."""
    task = asyncio.current_task()
    assert task is not None

    def make(index: int) -> PlannedRequest:
        if index == most:
            task.cancel()
        return PlannedRequest(at_s=0.0, body=b"{}")

    return await run_closed_loop(Target.from_url(server.url), make, clients, LONG_S)


async def test_each_request_is_sent_and_recorded_in_order() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await run_open_loop(
            Target.from_url(server.url), planned(5, gap_s=0.01), timeout_s=LONG_S
        )
    assert [record.index for record in records] == [0, 1, 2, 3, 4]
    assert [record.intended_s for record in records] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04])
    assert sorted(server.requests) == [b'{"i": %d}' % i for i in range(5)]
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
        target = Target("127.0.0.1", unused.getsockname()[1])
        records = await run_open_loop(target, planned(3), timeout_s=LONG_S)
    assert [r.outcome for r in records] == ["refused_connection"] * 3
    assert "refused" in records[0].reason.lower()


async def test_a_host_without_address_is_a_refused_connection() -> None:
    target = Target("no-such-host.invalid", 80)
    (record,) = await run_open_loop(target, planned(1), timeout_s=LONG_S)
    assert record.outcome == "refused_connection"


async def test_connections_are_used_again() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await closed_loop(server, clients=1, most=20)
    assert len(server.requests) >= 20
    assert server.connections == 1
    assert all(record.outcome in ("ok", "cut") for record in records)


async def test_a_closed_loop_keeps_its_clients_busy_and_no_more() -> None:
    async with endpoint(lambda _: GOOD) as server:
        records = await closed_loop(server, clients=4, most=40)
    assert server.most_active <= 4
    assert server.connections <= 4
    assert [record.index for record in records] == list(range(len(records)))


async def test_a_closed_loop_ends_with_its_time() -> None:
    async with endpoint(lambda _: GOOD) as server:
        target = Target.from_url(server.url)
        records = await run_closed_loop(target, lambda _: planned(1)[0], 2, 0.1)
    assert records
    assert {record.outcome for record in records} == {"ok"}


async def test_a_closed_loop_goes_on_after_refusals() -> None:
    async with endpoint(lambda n: FAULTS["shed"] if n < 3 else GOOD) as server:
        records = await closed_loop(server, clients=1, most=6)
    assert [r.outcome for r in records[:5]] == ["shed"] * 3 + ["ok"] * 2


async def test_cancelling_returns_what_was_measured() -> None:
    async with endpoint(lambda n: GOOD if n == 0 else HANG) as server:
        schedule = [*planned(2), PlannedRequest(at_s=3600.0, body=b"{}")]
        run = asyncio.create_task(
            run_open_loop(Target.from_url(server.url), schedule, timeout_s=LONG_S)
        )
        while len(server.requests) < 2:
            server.asked.clear()
            await server.asked.wait()
        run.cancel()
        records = await run
    assert len(records) == 2  # the third was not due
    assert {(r.outcome, r.reason) for r in records} <= {("ok", ""), ("cut", CLIENT_STOPPED)}


async def test_progress_adds_up() -> None:
    seen: list[Progress] = []
    schedule = [*planned(3), PlannedRequest(at_s=1.2, body=b"{}")]
    async with endpoint(lambda n: FAULTS["shed"] if n == 0 else GOOD) as server:
        await run_open_loop(
            Target.from_url(server.url), schedule, timeout_s=LONG_S, on_tick=seen.append
        )
    tick = seen[0]
    assert tick.offered == tick.in_flight + tick.ok + tick.shed + tick.failed
    assert (tick.shed, tick.ok, tick.tokens) == (1, 2, 6)
    assert tick.ttft_p50 is not None
    assert tick.lag_p99 is not None


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
        await run_closed_loop(Target("x", 1), lambda _: planned(1)[0], 0, 1.0)


async def test_a_server_that_closes_idle_connections_costs_nothing() -> None:
    closing = Reply(stream(event("a"), DONE), "close")  # keep-alive promised, then closed
    async with endpoint(lambda _: closing) as server:
        records = await run_open_loop(
            Target.from_url(server.url), planned(3, gap_s=0.1), timeout_s=LONG_S
        )
    assert [record.outcome for record in records] == ["ok"] * 3
