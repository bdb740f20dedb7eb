"""The server over real sockets. Nothing here asserts a duration: times are read from its plan."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from raw_client import RawClient, ask, ask_until_closed, completion, text_of, until

from forebay.mock import MockSpec
from forebay.mock.faults import Stall
from forebay.mock.laws import Fixed, Lognormal
from forebay.mock.mock_server import mock_server

QUICK = MockSpec(ttft=Fixed(0.004), itl=Fixed(0.002))
CHAT = "/v1/chat/completions"
HOUR = 3600.0


def chat(max_tokens: int, **more: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "one two three"}]},
    ]
    return {"model": "any", "messages": messages, "max_tokens": max_tokens, **more}


async def test_a_stream_carries_every_token_once_and_ends_well() -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, completion(30))
    events = answer.events()
    assert answer.status == 200
    assert text_of(events) == "".join(f" {number:03}" for number in range(30))
    assert [e["choices"][0]["finish_reason"] for e in events[:30]] == [None] * 29 + ["length"]
    usage, done = events[30:]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 4, "total_tokens": 34, "completion_tokens": 30}
    assert done == "[DONE]"
    assert {event["object"] for event in events[:-1]} == {"text_completion"}
    assert {event["id"] for event in events[:-1]} == {"cmpl-0"}


async def test_usage_comes_only_where_it_is_asked_for() -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, completion(2, stream_options=None))
    assert len(answer.events()) == 3
    assert all("usage" not in event for event in answer.events()[:-1])


async def test_a_chat_stream_begins_with_its_role() -> None:
    async with mock_server(QUICK) as mock:
        body = chat(3, stream=True, stream_options={"include_usage": True})
        events = (await ask(mock.url, body, path=CHAT)).events()
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert text_of(events) == " 000 001 002"
    assert events[3]["choices"][0]["finish_reason"] == "length"
    assert events[4]["usage"]["prompt_tokens"] == 5
    assert {event["object"] for event in events[:-1]} == {"chat.completion.chunk"}


async def test_plain_answers_have_openais_shape() -> None:
    async with mock_server(QUICK) as mock:
        text = (await ask(mock.url, completion(2, stream=False))).json()
        said = (await ask(mock.url, chat(2), path=CHAT)).json()
    assert text["choices"][0]["text"] == " 000 001"
    assert text["usage"] == {"prompt_tokens": 4, "total_tokens": 6, "completion_tokens": 2}
    assert said["object"] == "chat.completion"
    assert said["choices"][0]["message"] == {"role": "assistant", "content": " 000 001"}


@pytest.mark.parametrize(
    ("body", "prompt", "output"),
    [
        ({"prompt": [5, 6, 7], "max_tokens": 2}, 3, 2),
        ({"prompt": "a  b\nc", "max_tokens": None}, 3, 16),
        ({"prompt": "a"}, 1, 16),
    ],
)
async def test_tokens_are_counted(body: dict[str, Any], prompt: int, output: int) -> None:
    async with mock_server(QUICK) as mock:
        usage = (await ask(mock.url, body)).json()["usage"]
        (seen,) = mock.requests
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (prompt, output)
    assert (seen.prompt_tokens, seen.tokens) == (prompt, output)


async def test_every_token_is_due_when_the_laws_say() -> None:
    async with mock_server(QUICK) as mock:
        await ask(mock.url, completion(5), headers={"X-Request-Id": "r-1"})
        (seen,) = mock.requests
    assert list(seen.due) == [seen.arrived_s + (0.004 + k * 0.002) for k in range(5)]
    assert all(due <= written for due, written in zip(seen.due, seen.written, strict=True))
    assert list(seen.written) == sorted(seen.written)
    assert (seen.request_id, seen.ending, seen.status, seen.fault) == ("r-1", "answered", 200, "")
    assert seen.ended_s == seen.written[-1]
    assert seen.request is not None
    assert b'"max_tokens": 5' in seen.request.body


async def test_the_head_comes_before_the_first_token() -> None:
    async with mock_server(MockSpec(ttft=Fixed(HOUR))) as mock:
        client = await RawClient.connect(mock.url)
        client.send(completion())
        status, _ = await client.head()
        await client.close()
    assert status == 200
    assert mock.requests[0].tokens == 0


async def test_the_seed_and_the_number_decide_what_is_drawn() -> None:
    async def offsets(seed: int) -> list[list[float]]:
        spec = MockSpec(ttft=Lognormal(0.002, 0.004), itl=Lognormal(0.001, 0.002), seed=seed)
        async with mock_server(spec) as mock:
            for _ in range(2):
                await ask(mock.url, completion(4))
            return [[round(due - seen.arrived_s, 7) for due in seen.due] for seen in mock.requests]

    first, again, other = await offsets(1), await offsets(1), await offsets(2)
    assert first == again
    assert first[0] != first[1]
    assert first != other


async def test_slots_serve_in_order_of_arrival_and_the_wait_is_exact() -> None:
    spec = MockSpec(ttft=Fixed(0.003), itl=Fixed(0.001), slots=2)
    async with mock_server(spec) as mock:
        clients = [await RawClient.connect(mock.url) for _ in range(7)]
        for client in clients:
            client.send(completion(4))
            await client.head()  # so the next arrives after it
        for client in clients:
            await client.body({"transfer-encoding": "chunked"})
            await client.close()
        seen = mock.requests
    for waiting, (earlier, later) in zip(seen[2:], pairwise(seen), strict=False):
        free = min(request.due[-1] for request in (earlier, later))
        assert waiting.started_s == max(free, waiting.arrived_s)
        assert waiting.due[0] == waiting.started_s + 0.003
    assert all(request.tokens == 4 for request in seen)


async def test_beyond_the_queue_it_refuses_and_says_when_to_return() -> None:
    spec = MockSpec(ttft=Fixed(HOUR), slots=1, max_queued=1, retry_after_s=1.5)
    async with mock_server(spec) as mock:
        clients = [await RawClient.connect(mock.url) for _ in range(2)]
        for client in clients:
            client.send(completion())
            await client.head()
        assert (mock.pulse().running, mock.pulse().queued) == (1, 1)
        refused = await ask(mock.url, completion())
        for client in clients:
            await client.close()
    assert refused.status == 429
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert (refused.headers["retry-after"], refused.headers["retry-after-ms"]) == ("2", "1500")


async def test_a_client_that_leaves_gives_its_slot_to_the_next() -> None:
    async with mock_server(MockSpec(ttft=Fixed(0.001), itl=Fixed(HOUR), slots=1)) as mock:
        first = await RawClient.connect(mock.url)
        first.send(completion(2))
        await first.head()
        queued = asyncio.create_task(ask(mock.url, completion(1)))
        await until(lambda: mock.pulse().queued)
        await first.close()
        assert len((await queued).events()) == 3
    left, answered = mock.requests
    assert (left.ending, answered.ending) == ("left", "answered")
    assert answered.started_s == left.ended_s


async def test_a_stall_moves_what_is_due_to_its_end() -> None:
    spec = MockSpec(ttft=Fixed(0.0), itl=Fixed(0.02), faults=(Stall(0.01, 0.05),))
    async with mock_server(spec) as mock:
        await ask(mock.url, completion(6))
        (seen,) = mock.requests
    end = seen.arrived_s + 0.01 + 0.05
    plan = [seen.arrived_s + k * 0.02 for k in range(6)]
    assert list(seen.due) == pytest.approx([plan[0], end, end, *plan[3:]], abs=1e-9)
    assert all(due <= written for due, written in zip(seen.due, seen.written, strict=True))


async def test_a_stalled_server_answers_nothing_at_all() -> None:
    async def when(client: RawClient) -> float:
        assert (await client.head())[0] == 200
        return mock.clock()

    async with mock_server(QUICK) as mock:
        stalling, health = [await RawClient.connect(mock.url) for _ in range(2)]
        stalling.send(completion(1), headers={"X-Mock": "stall=50ms"})
        await until(lambda: mock.requests)
        health.send(path="/health", method="GET")
        heads = await asyncio.gather(when(stalling), when(health))
        for client in (stalling, health):
            await client.close()
    (seen,) = mock.requests
    assert min(heads) >= seen.due[0] == seen.arrived_s + 0.05


async def test_one_connection_carries_one_request_after_another() -> None:
    async with mock_server(QUICK) as mock:
        client = await RawClient.connect(mock.url)
        for number in range(4):
            client.send(completion(number + 1, stream=number % 2 == 0))
            answer = await client.receive()
            assert answer.status == 200
        client.send(method="GET", path="/health")
        assert (await client.receive()).status == 200
        await client.close()
    assert [seen.tokens for seen in mock.requests] == [1, 2, 3, 4]


async def test_a_client_may_ask_it_to_close() -> None:
    async with mock_server(QUICK) as mock:
        everything = await ask_until_closed(
            mock.url, completion(2), headers={"Connection": "close"}
        )
    assert everything.endswith(b"0\r\n\r\n")
    assert mock.requests[0].ending == "answered"


async def test_a_request_may_come_in_pieces() -> None:
    body = b'{"prompt": "a b", "max_tokens": 2}'
    async with mock_server(QUICK) as mock:
        client = await RawClient.connect(mock.url)
        head = b"POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % len(body)
        client.writer.write(head + b"Expect: 100-continue\r\n\r\n")
        assert (await client.head())[0] == 100
        for place in range(len(body)):
            client.writer.write(body[place : place + 1])
            await asyncio.sleep(0)
        assert (await client.receive()).json()["usage"]["total_tokens"] == 4
        await client.close()


async def test_requests_sent_ahead_are_not_answered_out_of_order() -> None:
    async with mock_server(MockSpec(ttft=Fixed(HOUR))) as mock:
        client = await RawClient.connect(mock.url)
        client.send(completion(2))
        client.send(completion(2))
        await client.until_closed()
        await client.close()
    assert [seen.ending for seen in mock.requests] == ["left"]


async def test_what_is_not_http_is_told_so() -> None:
    async with mock_server(QUICK) as mock:
        client = await RawClient.connect(mock.url)
        client.writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await client.receive()).status == 400
        await client.close()


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        ({"max_tokens": 3}, "prompt"),
        ({"prompt": [], "max_tokens": 3}, "prompt"),
        ({"prompt": ["a", "b"], "max_tokens": 3}, "one text"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens"),
        ({"prompt": "a", "max_tokens": "many"}, "max_tokens"),
        ({"prompt": "a", "max_tokens": 200_000}, "131072"),
        ({"prompt": "a", "n": 2}, "n must be 1"),
        ({"prompt": "a", "stream_options": {"include_usage": True}}, "needs stream"),
    ],
)
async def test_impossible_bodies_are_refused(body: Any, says: str) -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, body)
    assert answer.status == 400
    assert says in answer.json()["error"]["message"]
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert mock.requests[0].status == 400


@pytest.mark.parametrize("messages", [None, [], [{"role": "user"}], ["hello"]])
async def test_impossible_messages_are_refused(messages: Any) -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, {"messages": messages}, path=CHAT)
    assert answer.status == 400
    assert "message" in answer.json()["error"]["message"]


async def test_the_pages_around_the_answers() -> None:
    spec = MockSpec(ttft=Fixed(0.001), model='a "b"', slots=4, max_model_len=99)
    async with mock_server(spec) as mock:
        await ask(mock.url, completion(3))
        (model,) = (await ask(mock.url, path="/v1/models?x=1", method="GET")).json()["data"]
        metrics = (await ask(mock.url, path="/metrics", method="GET")).body.decode()
        words = (await ask(mock.url, {"prompt": "a b c"}, path="/tokenize")).json()
        ids = (await ask(mock.url, {"prompt": [7, 8]}, path="/tokenize")).json()
        said = (await ask(mock.url, chat(1), path="/tokenize")).json()
    assert (model["id"], model["max_model_len"]) == ('a "b"', 99)
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
    labels = '{engine="0",model_name="a \\"b\\""}'
    assert values == {
        f"vllm:num_requests_running{labels}": "0",
        f"vllm:num_requests_waiting{labels}": "0",
        f"vllm:kv_cache_usage_perc{labels}": "0.0",
        f"vllm:prompt_tokens_total{labels}": "4",
        f"vllm:generation_tokens_total{labels}": "3",
    }
    assert words == {"count": 3, "max_model_len": 99, "tokens": [0, 1, 2], "token_strs": None}
    assert (ids["count"], ids["tokens"]) == (2, [7, 8])
    assert said["count"] == 5


async def test_metrics_show_what_runs_and_waits_and_no_want_of_kv_blocks() -> None:
    async with mock_server(MockSpec(ttft=Fixed(HOUR), slots=1)) as mock:
        clients = [await RawClient.connect(mock.url) for _ in range(3)]
        for client in clients:
            client.send(completion())
            await client.head()
        metrics = (await ask(mock.url, path="/metrics", method="GET")).body.decode()
        for client in clients:
            await client.close()
    for line in ("num_requests_running{L} 1", "num_requests_waiting{L} 2", "usage_perc{L} 0.5"):
        assert line.replace("{L}", '{engine="0",model_name="mock"}') in metrics


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/completions", 405), ("POST", "/health", 405), ("GET", "/nowhere", 404)],
)
async def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, method=method, path=path)
    assert answer.status == status
    assert answer.json()["error"]["message"]


async def test_what_is_on_its_way_ends_with_the_server() -> None:
    async with mock_server(MockSpec(ttft=Fixed(HOUR))) as mock:
        client = await RawClient.connect(mock.url)
        client.send(completion())
        await client.head()
    assert mock.requests[0].ending == "stopped"
    await client.until_closed()
    await client.close()


async def test_a_slow_reader_loses_nothing() -> None:
    async with mock_server(MockSpec(ttft=Fixed(0.0), itl=Fixed(0.0))) as mock:
        client = await RawClient.connect(mock.url)
        client.send(completion(40_000))
        _, headers = await client.head()
        await until(lambda: mock.requests[0].tokens == 40_000)
        assert mock.waited > 0
        body = await client.body(headers)
        await client.close()
    assert body.count(b'"text":" ') == 40_000
