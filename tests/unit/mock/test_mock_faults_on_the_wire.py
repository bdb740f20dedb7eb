"""Each fault as a client sees it, and as the mock's own log tells it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from raw_client import RawClient, Response, ask, ask_until_closed, completion, text_of, until

from forebay.mock import MockSpec, parse_rule
from forebay.mock.faults import Fault, FaultRule
from forebay.mock.laws import Fixed, request_rng
from forebay.mock.mock_events import MULTIBYTE_TEXTS, STREAM_HEAD
from forebay.mock.mock_requests import MockRequest
from forebay.mock.mock_server import mock_server
from forebay.mock.scripts import Script, stream

QUICK = MockSpec(ttft=Fixed(0.002), itl=Fixed(0.001))
NAMES: dict[str, object] = {"id": "cmpl-0", "object": "text_completion", "created": 0, "model": "m"}


def forced(words: str) -> dict[str, str]:
    return {"X-Mock": words}


def events_of(body: bytes) -> list[Any]:
    return Response(200, {"content-type": "text/event-stream"}, body).events()


def dechunked(data: bytes) -> bytes:
    """The body of a chunked response of which every chunk is whole."""
    pieces = []
    while data:
        size, _, data = data.partition(b"\r\n")
        end = int(size, 16)
        assert data[end : end + 2] == b"\r\n"
        pieces.append(data[:end])
        data = data[end + 2 :]
    return b"".join(pieces)


async def test_drop_closes_before_any_byte() -> None:
    async with mock_server(QUICK) as mock:
        assert await ask_until_closed(mock.url, completion(), headers=forced("drop")) == b""
    (seen,) = mock.requests
    assert (seen.fault, seen.ending, seen.status, seen.tokens) == ("drop", "closed", 0, 0)


async def test_malformed_is_not_http() -> None:
    async with mock_server(QUICK) as mock:
        data = await ask_until_closed(mock.url, completion(), headers=forced("malformed"))
    assert data
    assert not data.startswith(b"HTTP/")


async def test_429_says_when_to_return() -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, completion(), headers=forced("429=2500ms"))
    assert answer.status == 429
    assert answer.json()["error"]["message"]
    assert (answer.headers["retry-after"], answer.headers["retry-after-ms"]) == ("3", "2500")


async def test_500_has_openais_shape_and_503_is_bare() -> None:
    async with mock_server(QUICK) as mock:
        failed = await ask(mock.url, completion(), headers=forced("500"))
        bare = await ask(mock.url, completion(), headers=forced("503"))
    assert (failed.status, failed.json()["error"]["type"]) == (500, "server_error")
    assert (bare.status, bare.headers["content-type"]) == (503, "text/plain")
    with pytest.raises(ValueError, match="Expecting"):
        bare.json()


async def test_hang_never_answers() -> None:
    async with mock_server(QUICK) as mock:
        client = await RawClient.connect(mock.url)
        client.send(completion(), headers=forced("hang"))
        # Another request is answered whole, so the server had its chance.
        assert (await ask(mock.url, completion())).status == 200
        assert mock.requests[0].ending == ""
        assert not client.reader._buffer  # type: ignore[attr-defined]
        await client.close()
        await until(lambda: mock.requests[0].ending)
    assert mock.requests[0].ending == "left"


@pytest.mark.parametrize(("count", "seen_tokens"), [(0, 0), (1, 1), (3, 3), (5, 5), (9, 5)])
async def test_cut_closes_after_that_many_tokens(count: int, seen_tokens: int) -> None:
    async with mock_server(QUICK) as mock:
        data = await ask_until_closed(mock.url, completion(5), headers=forced(f"cut={count}"))
    head, _, body = data.partition(b"\r\n\r\n")
    events = events_of(dechunked(body)) if body else []
    assert head.startswith(b"HTTP/1.1 200")
    assert text_of(events) == "".join(f" {n:03}" for n in range(seen_tokens))
    assert all(event["choices"][0]["finish_reason"] is None for event in events)
    (seen,) = mock.requests
    assert (seen.tokens, len(seen.due), seen.ending) == (seen_tokens, seen_tokens, "closed")


async def test_a_broken_chat_begins_with_its_role_too() -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5, "stream": True}
    async with mock_server(QUICK) as mock:
        for words in ("error-in-stream=2", "chunk=2"):
            answer = await ask(mock.url, body, path="/v1/chat/completions", headers=forced(words))
            first, second, *_ = answer.events()
            assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
            assert second["choices"][0]["delta"]["content"].startswith(" 000")


async def test_a_plain_answer_is_cut_too() -> None:
    async with mock_server(QUICK) as mock:
        body = completion(5, stream=False)
        data = await ask_until_closed(mock.url, body, headers=forced("cut"))
    head, _, rest = data.partition(b"\r\n\r\n")
    promised = int(head.decode().partition("content-length: ")[2].split()[0])
    assert 0 < len(rest) < promised


@pytest.mark.parametrize(("count", "good"), [(0, 0), (2, 2), (9, 5)])
async def test_an_error_inside_a_stream(count: int, good: int) -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, completion(5), headers=forced(f"error-in-stream={count}"))
    *tokens, error, done = answer.events()
    assert answer.status == 200
    assert len(tokens) == good
    assert error["error"]["type"] == "server_error"
    assert done == "[DONE]"
    assert mock.requests[0].tokens == good


async def test_faults_that_end_well_leave_the_connection_usable() -> None:
    faults = ["error-in-stream", "no-done", "chunk", "split", "stall=1ms", "429", "500", "503"]
    async with mock_server(QUICK) as mock:
        client = await RawClient.connect(mock.url)
        for fault in faults:
            client.send(completion(2), headers=forced(fault))
            await client.receive()
        await client.close()
        assert [seen.fault.partition("=")[0] for seen in mock.requests] == [
            fault.partition("=")[0] for fault in faults
        ]


async def test_a_plain_answer_has_its_error_as_a_status() -> None:
    async with mock_server(QUICK) as mock:
        body = completion(5, stream=False)
        answer = await ask(mock.url, body, headers=forced("error-in-stream"))
    assert answer.status == mock.requests[0].status == 500


@pytest.mark.parametrize("tokens", [1, 3, 4, 8, 10])
async def test_several_tokens_in_an_event_keep_usage_exact(tokens: int) -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, completion(tokens), headers=forced("chunk=4"))
        (seen,) = mock.requests
    *events, usage, _ = answer.events()
    words = [len(event["choices"][0]["text"].split()) for event in events]
    assert words == [4] * (tokens // 4) + [tokens % 4] * (tokens % 4 > 0)
    assert usage["usage"]["completion_tokens"] == tokens == seen.tokens
    last = [min(place * 4 + 3, tokens - 1) for place in range(len(words))]
    assert list(seen.due) == [seen.arrived_s + (0.002 + k * 0.001) for k in last]


async def test_a_stream_may_lack_its_done() -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, completion(2), headers=forced("no-done"))
    assert answer.events()[-1]["usage"]["completion_tokens"] == 2


async def test_split_text_is_put_together_again() -> None:
    async with mock_server(QUICK) as mock:
        for chat in (False, True):
            body = completion(40)
            if chat:
                body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
            path = "/v1/chat/completions" if chat else "/v1/completions"
            answer = await ask(mock.url, body, path=path, headers=forced("split"))
            assert text_of(answer.events()) == b"".join(MULTIBYTE_TEXTS[:40]).decode()


def split_script(seed: int, tokens: int, *, chat: bool) -> tuple[Script, Script]:
    """The same answer, split and not."""
    asked = MockRequest(chat, 4, tokens, stream=True, include_usage=True)
    offsets = [k * 1.0 for k in range(tokens)]
    whole = stream(asked, NAMES, offsets, None, request_rng(seed, 0))
    return stream(asked, NAMES, offsets, Fault("split"), request_rng(seed, 0)), whole


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), tokens=st.integers(1, 30), chat=st.booleans())
def test_split_writes_complete_each_token_when_it_is_due(
    seed: int, tokens: int, chat: bool
) -> None:
    script, whole = split_script(seed, tokens, chat=chat)
    assert list(script.offsets) == list(whole.offsets)
    written = b""
    for place in range(tokens):
        written += script.piece(place)
        text = written.decode("utf-8", "ignore")
        complete = text.count("\n\n") - chat  # less the role's event
        if place + 1 < tokens:
            assert complete == place + 1
    assert text_of(events_of(dechunked(written.removesuffix(b"0\r\n\r\n")))) == (
        b"".join(MULTIBYTE_TEXTS[:tokens]).decode()
    )


def test_split_falls_inside_characters_and_lines() -> None:
    inside_a_character = 0
    for seed in range(40):
        script, _ = split_script(seed, 20, chat=False)
        pieces = [script.piece(place) for place in range(20)]
        assert not any(piece.endswith(b"\n\n\r\n") for piece in pieces[:-1])
        inside_a_character += sum(0x80 <= piece[0] < 0xC0 for piece in pieces[1:])
    assert inside_a_character > 0


async def test_a_share_of_the_requests_is_hit_the_same_ones_each_time() -> None:
    spec = MockSpec(ttft=Fixed(0.0), faults=(parse_rule("500 30%"), parse_rule("503 20%")), seed=5)

    async def statuses() -> list[int]:
        async with mock_server(spec) as mock:
            return [(await ask(mock.url, completion(1))).status for _ in range(200)]

    first, again = await statuses(), await statuses()
    assert first == again
    counted = Counter(first)
    # 200 draws: five standard deviations (6.5 and 5.7) about 60 and 40
    assert 27 < counted[500] < 93
    assert 11 < counted[503] < 69


async def test_a_window_opens_with_the_first_request() -> None:
    spec = MockSpec(ttft=Fixed(0.0), faults=(FaultRule(Fault("500"), for_s=3600.0),))
    async with mock_server(spec) as mock:
        assert (await ask(mock.url, completion(1))).status == 500
    later = MockSpec(ttft=Fixed(0.0), faults=(FaultRule(Fault("500"), from_s=3600.0),))
    async with mock_server(later) as mock:
        assert (await ask(mock.url, completion(1))).status == 200


async def test_a_request_may_ask_to_be_spared() -> None:
    spec = MockSpec(ttft=Fixed(0.0), faults=(FaultRule(Fault("500")),))
    async with mock_server(spec) as mock:
        assert (await ask(mock.url, completion(1), headers=forced("none"))).status == 200
        assert (await ask(mock.url, completion(1))).status == 500


async def test_an_unknown_fault_is_refused() -> None:
    async with mock_server(QUICK) as mock:
        answer = await ask(mock.url, completion(1), headers=forced("explode"))
    assert answer.status == 400
    assert "unknown fault 'explode'" in answer.json()["error"]["message"]


def test_the_head_of_a_stream_is_alone_in_its_write() -> None:
    script, whole = split_script(0, 3, chat=False)
    assert script.head == whole.head == STREAM_HEAD
    assert all(later > earlier for earlier, later in pairwise(script.offsets))


async def test_the_log_is_plain_json() -> None:
    async with mock_server(QUICK) as mock:
        await ask_until_closed(mock.url, completion(2), headers=forced("cut=1"))
    values = json.loads(json.dumps(mock.requests[0].as_dict()))
    assert (values["fault"], values["number"], len(values["written"])) == ("cut=1", 0, 1)
