"""The proxy over real sockets: what goes in on one side comes out on the other."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_peers import (
    CHAT,
    LAST,
    SSE_HEAD,
    Peer,
    Proxied,
    Upstream,
    answer,
    chat,
    chunk,
    event,
    proxied,
    request,
    until,
    upstream,
    usage,
)

from forebay.record import client_side


async def ask(proxy: Proxied, server: Upstream, data: bytes) -> tuple[Peer, Peer]:
    """A client that has asked, and the server's end of it, with the request's head read."""
    client = await proxy.connect()
    client.write(data)
    return client, await server.accept()


async def test_a_request_and_its_answer_pass() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        body = chat()
        client, peer = await ask(proxy, server, request(body, "X-A: 1", "Authorization: Bearer k"))
        first, headers, received = await peer.message()
        assert first == f"POST {CHAT} HTTP/1.1"
        assert received == body
        assert headers["host"] == server.url.removeprefix("http://")
        assert (headers["x-a"], headers["authorization"]) == ("1", "Bearer k")
        said = answer(b'{"usage":{"prompt_tokens":9,"completion_tokens":2}}', "X-B: 2", "X-b: 3")
        peer.write(said)
        await client.expect(said)
    (row,) = proxy.rows
    assert (row["prompt_tokens"], row["output_tokens"]) == (9, 2)
    assert row["tenant"].startswith("t-")
    assert "estimated" not in row


async def test_every_piece_of_a_stream_is_passed_on_before_the_next_is_there() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        pieces = [SSE_HEAD, *(chunk(event(f"word {k}")) for k in range(20))]
        # Not only whole events: a piece may end anywhere.
        pieces += [chunk(usage(9, 20))[:7], chunk(usage(9, 20))[7:], b"0\r", b"\n\r\n"]
        for piece in pieces:
            peer.write(piece)
            await client.expect(piece)
        await until(lambda: proxy.lines)
    assert (proxy.rows[0]["prompt_tokens"], proxy.rows[0]["output_tokens"]) == (9, 20)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.lists(st.integers(1, 500), max_size=20),
    st.booleans(),
)
def test_whatever_is_answered_comes_out_as_it_went_in(
    bodies: list[bytes], cuts: list[int], chunked: bool
) -> None:
    said = SSE_HEAD + b"".join(map(chunk, bodies)) + LAST if chunked else answer(b"".join(bodies))

    async def pass_through() -> None:
        async with upstream() as server, proxied(server.url) as proxy:
            client, peer = await ask(proxy, server, request(chat()))
            await peer.message()
            left = said
            for cut in cuts:
                peer.write(left[:cut])
                left = left[cut:]
                await asyncio.sleep(0)
            peer.write(left)
            await client.expect(said)
            await until(lambda: proxy.lines)
            assert proxy.rows[0].get("outcome") is None

    asyncio.run(pass_through())


async def test_a_body_in_chunks_passes_in_chunks() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        pieces = [chat()[:5], chat()[5:]]
        client, peer = await ask(proxy, server, request(chunks=pieces))
        _, headers, received = await peer.message()
        assert headers["transfer-encoding"] == "chunked"
        assert "content-length" not in headers
        assert received == chat()
        peer.write(answer(b"{}"))
        await client.expect(answer(b"{}"))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_passes_whole(chunked: bool) -> None:
    body = chat("x" * (24 << 20))
    parts = [body[k : k + (1 << 20)] for k in range(0, len(body), 1 << 20)]
    async with upstream() as server, proxied(server.url) as proxy:
        sent = request(chunks=parts) if chunked else request(body)
        client, peer = await ask(proxy, server, sent)
        _, _, received = await peer.message()
        assert hashlib.sha256(received).digest() == hashlib.sha256(body).digest()
        peer.write(answer(b"{}"))
        await client.expect(answer(b"{}"))
    assert proxy.rows[0]["prompt_tokens"] == round(len(body) / 4)


async def test_a_kept_alive_connection_keeps_one_connection_upstream() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client = await proxy.connect()
        peer: Peer | None = None
        for number in range(4):
            client.write(request(chat(str(number))))
            peer = peer or await server.accept()
            _, _, received = await peer.message()
            assert received == chat(str(number))
            said = answer(b"{}", f"X-Number: {number}")
            peer.write(said)
            await client.expect(said)
        await until(lambda: len(proxy.lines) == 4)
        assert server.accepted == 1
        assert [row["at_s"] for row in proxy.rows] == sorted(row["at_s"] for row in proxy.rows)


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat("a")) + request(chat("b")))
        for content in ("a", "b"):
            assert (await peer.message())[2] == chat(content)
        said = [answer(b'{"usage":{"prompt_tokens":%d}}' % number) for number in (1, 2)]
        peer.write(*said)
        await client.expect(b"".join(said))
        await until(lambda: len(proxy.lines) == 2)
    assert [row["prompt_tokens"] for row in proxy.rows] == [1, 2]


async def test_other_methods_and_paths_pass_and_are_not_recorded() -> None:
    async with upstream() as server, proxied(f"{server.url}/base") as proxy:
        client, peer = await ask(proxy, server, request(method="GET", path="/v1/models?a=b"))
        assert (await peer.head())[0] == "GET /base/v1/models?a=b HTTP/1.1"
        peer.write(answer(b"models"))
        await client.expect(answer(b"models"))
        client.write(request(method="DELETE", path="/v1/files/1"))
        assert (await peer.head())[0] == "DELETE /base/v1/files/1 HTTP/1.1"
        peer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await client.expect(b"HTTP/1.1 204 No Content\r\n\r\n")
        await until(lambda: proxy.proxy.in_flight == 0)
    assert proxy.lines == []


async def test_an_answer_to_head_has_no_body_and_the_connection_goes_on() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(method="HEAD", path="/v1/models"))
        await peer.head()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        peer.write(head)
        await client.expect(head)
        client.write(request(chat()))
        await peer.message()
        peer.write(answer(b'{"usage":{"prompt_tokens":5}}'))
        assert (await client.message())[2] == b'{"usage":{"prompt_tokens":5}}'
        await until(lambda: proxy.lines)
    assert proxy.rows[0]["prompt_tokens"] == 5
    assert proxy.proxy.recorder.totals.out_of_sight == 0


async def test_a_client_may_wait_until_its_body_is_asked_for() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        body = chat()
        head, _, _ = request(body, "Expect: 100-continue").partition(b"\r\n\r\n")
        client, peer = await ask(proxy, server, head + b"\r\n\r\n")
        assert (await peer.head())[1]["expect"] == "100-continue"
        peer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.write(body)
        await peer.expect(body)
        peer.write(answer(b"{}"))
        await client.expect(answer(b"{}"))
        await until(lambda: proxy.lines)
    assert proxy.rows[0].get("outcome") is None


async def test_a_server_that_closes_after_its_continue_has_not_answered() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat(), "Expect: 100-continue"))
        await peer.message()
        peer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await client.expect(b"HTTP/1.1 100 Continue\r\n\r\n")
        await peer.close()
        assert await client.until_closed() == b""
        await until(lambda: proxy.lines)
    assert proxy.rows[0]["outcome"] == "cut"


async def test_a_body_may_end_with_the_connection() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat(), version="1.0"))
        first, headers, _ = await peer.message()
        assert first.endswith("HTTP/1.0")
        assert headers["connection"] == "close"
        said = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event("a") * 3
        peer.write(said)
        await client.expect(said)
        await peer.close()
        assert await client.until_closed() == b""
        await until(lambda: proxy.lines)
    assert (proxy.rows[0]["output_tokens"], proxy.rows[0].get("outcome")) == (3, None)


async def test_a_client_that_asks_to_close_has_the_server_close() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat(), "Connection: close"))
        assert (await peer.message())[1]["connection"] == "close"
        peer.write(answer(b"{}", "Connection: close"))
        await peer.close()
        assert await client.until_closed() == answer(b"{}", "Connection: close")


async def test_a_client_that_leaves_ends_its_request_upstream() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        peer.write(SSE_HEAD, chunk(event("a")), chunk(event("b")))
        await client.expect(SSE_HEAD + chunk(event("a")) + chunk(event("b")))
        await client.close()
        assert await peer.until_closed() == b""
        await until(lambda: proxy.lines)
    assert (proxy.rows[0]["outcome"], proxy.rows[0]["output_tokens"]) == ("cancelled", 2)


async def test_a_client_that_leaves_before_any_answer_does_so_too() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        await client.close()
        assert await peer.until_closed() == b""
        await until(lambda: proxy.lines)
    assert (proxy.rows[0]["outcome"], proxy.rows[0]["output_tokens"]) == ("cancelled", 0)


async def test_a_stream_that_breaks_off_upstream_breaks_off_here() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        said = SSE_HEAD + chunk(event("a"))
        peer.write(said)
        await client.expect(said)
        await peer.close()
        assert await client.until_closed() == b""  # no last chunk: the client knows
        await until(lambda: proxy.lines)
    assert (proxy.rows[0]["outcome"], proxy.rows[0]["output_tokens"]) == ("cut", 1)


async def test_a_server_that_closes_without_an_answer_is_answered_for() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        await peer.close()
        first, headers, body = await client.message()
        assert first == "HTTP/1.1 502 Bad Gateway"
        assert headers["connection"] == "close"
        assert json.loads(body)["error"]["type"] == "server_error"
        assert await client.until_closed() == b""
    assert proxy.rows[0]["outcome"] == "failed"


async def test_an_idle_connection_that_the_server_closes_is_closed() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        peer.write(answer(b"{}"))
        await client.expect(answer(b"{}"))
        await peer.close()
        assert await client.until_closed() == b""
    assert len(proxy.lines) == 1


@pytest.fixture
def nobody() -> str:
    """The URL of a port that nobody listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("size", [10, 8 << 20])
async def test_a_server_that_is_not_there_is_a_502_in_openais_shape(nobody: str, size: int) -> None:
    async with proxied(nobody) as proxy:
        client = await proxy.connect()
        client.write(request(chat("x" * size)))
        first, _, body = await client.message()
        assert first == "HTTP/1.1 502 Bad Gateway"
        error = json.loads(body)["error"]
        assert (error["type"], error["code"]) == ("server_error", "unreachable")
        assert await client.until_closed() == b""
        assert "refused" in proxy.proxy.trouble
    assert proxy.rows[0]["outcome"] == "failed"


async def test_who_waits_for_a_continue_hears_of_that_at_once(nobody: str) -> None:
    async with proxied(nobody) as proxy:
        client = await proxy.connect()
        head, _, _ = request(chat(), "Expect: 100-continue").partition(b"\r\n\r\n")
        client.write(head + b"\r\n\r\n")
        assert (await client.message())[0] == "HTTP/1.1 502 Bad Gateway"


async def test_a_slow_reader_slows_the_server_down_and_loses_nothing() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        body = b"x" * (32 << 20)
        said = answer(body)
        peer.write(said)
        (side,) = proxy.proxy._open
        await until(lambda: side._server is not None and side._server._transport is not None
                    and not side._server._transport.is_reading())  # fmt: skip
        assert side._transport is not None
        assert side._transport.get_write_buffer_size() < 2 << 20
        await client.expect(said)
        await until(lambda: proxy.lines)


async def test_a_slow_server_slows_the_client_down_and_loses_nothing() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        body = b"x" * (32 << 20)
        client, peer = await ask(proxy, server, request(body))
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        (side,) = proxy.proxy._open
        await until(lambda: side._transport is not None and not side._transport.is_reading())
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert (await peer.message())[2] == body
        peer.write(answer(b"{}"))
        await client.expect(answer(b"{}"))


async def test_a_client_that_asks_for_http_2_is_served_with_its_body() -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAA")
    async with upstream() as server, proxied(server.url) as proxy:
        client = await proxy.connect()
        peer: Peer | None = None
        for sent in (request(chat("a"), *upgrade), request(b"", *upgrade, chunks=[b"a", b"bc"]),
                     request(b"", *upgrade, method="GET", path="/v1/models")):  # fmt: skip
            client.write(sent[:-3])
            await asyncio.sleep(0)
            client.write(sent[-3:])
            peer = peer or await server.accept()
            _, headers, received = await peer.message()
            assert headers.keys().isdisjoint({"upgrade", "http2-settings", "connection"})
            assert received in (chat("a"), b"abc", b"")
            peer.write(answer(b"{}"))
            await client.expect(answer(b"{}"))
        await until(lambda: len(proxy.lines) == 2)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01 hello\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "405 Method Not Allowed"),
    ],
)
async def test_what_cannot_be_passed_on_is_refused(sent: bytes, status: str) -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client = await proxy.connect()
        client.write(sent)
        first, _, body = await client.message()
        assert first == f"HTTP/1.1 {status}"
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        assert await client.until_closed() == b""
        assert server.accepted == 0


async def test_a_head_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_side, "_LARGEST_HEAD", 1000)
    async with upstream() as server, proxied(server.url) as proxy:
        client = await proxy.connect()
        client.write(b"GET / HTTP/1.1\r\nX-A: ", b"x" * 2000)
        assert await client.until_closed() == b""
        assert server.accepted == 0


async def test_a_packed_answer_passes_packed_and_is_read_all_the_same() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        accepts = "Accept-Encoding: gzip, br, zstd"
        client, peer = await ask(proxy, server, request(chat(), accepts))
        assert (await peer.message())[1]["accept-encoding"] == "gzip"
        packed = gzip.compress(event("a") * 5 + usage(9, 5))
        head = SSE_HEAD.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
        said = head + chunk(packed[:20]) + chunk(packed[20:]) + LAST
        peer.write(said)
        await client.expect(said)
        await until(lambda: proxy.lines)
    assert (proxy.rows[0]["prompt_tokens"], proxy.rows[0]["output_tokens"]) == (9, 5)


async def test_an_answer_that_is_no_http_passes_and_is_said_to_be_out_of_sight() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        said = b"SSH-2.0-not_a_web_server\r\n"
        peer.write(said)
        await client.expect(said)
        client.write(request(chat()))
        await peer.message()
        peer.write(said)
        await client.expect(said)
        await peer.close()
        assert await client.until_closed() == b""
    assert [row["outcome"] for row in proxy.rows] == ["malformed"]
    assert proxy.proxy.recorder.totals.out_of_sight == 1


async def test_many_clients_at_once_are_kept_apart() -> None:
    async def serve(server: Upstream) -> None:
        while True:
            peer = await server.accept()
            await peer.message()
            tasks.append(asyncio.create_task(stream(peer)))

    async def stream(peer: Peer) -> None:
        number = server.peers.index(peer)
        peer.write(SSE_HEAD)
        for _ in range(number):
            peer.write(chunk(event(str(number))))
            await asyncio.sleep(0)
        peer.write(chunk(usage(1000 + number, number)), LAST)

    tasks: list[asyncio.Task[None]] = []
    async with upstream() as server, proxied(server.url) as proxy:
        serving = asyncio.create_task(serve(server))
        clients = [await proxy.connect() for _ in range(40)]
        for client in clients:
            client.write(request(chat()))
        bodies = [(await client.message())[2] for client in clients]
        serving.cancel()
        await asyncio.gather(*tasks)
        await until(lambda: len(proxy.lines) == 40)
    for body in bodies:
        number = body.count(b'"delta"')
        assert body == event(str(number)) * number + usage(1000 + number, number)
    assert {(row["prompt_tokens"], row["output_tokens"]) for row in proxy.rows} == {
        (1000 + number, number) for number in range(40)
    }


async def test_it_ends_when_the_answers_on_their_way_have_ended() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        idle = await proxy.connect()
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        peer.write(SSE_HEAD)
        await client.expect(SSE_HEAD)
        closing = asyncio.create_task(proxy.proxy.close(grace_s=1000.0))
        assert await idle.until_closed() == b""
        assert not closing.done()
        peer.write(chunk(event("a")), LAST)
        await client.expect(chunk(event("a")) + LAST)
        assert await client.until_closed() == b""
        await closing
    assert proxy.rows[0].get("outcome") is None


async def test_without_patience_it_ends_at_once() -> None:
    async with upstream() as server, proxied(server.url) as proxy:
        client, peer = await ask(proxy, server, request(chat()))
        await peer.message()
        await proxy.proxy.close()
        assert await client.until_closed() == b""
        assert await peer.until_closed() == b""
    assert proxy.rows[0]["outcome"] == "stopped"


async def test_equal_beginnings_are_seen_and_nothing_else_of_the_text() -> None:
    secret = "the-secret-of-the-company "
    async with upstream() as server, proxied(server.url, tokens=16) as proxy:
        for content in (secret * 10 + "a", secret * 10 + "b", "x" + secret * 10):
            client, peer = await ask(proxy, server, request(chat(content), "api-key: the-secret-k"))
            await peer.message()
            peer.write(answer(b'{"choices":[{"text":"the-secret-answer"}]}'))
            await client.message()
        await until(lambda: len(proxy.lines) == 3)
    one, two, three = (row["blocks"] for row in proxy.rows)
    assert one == two
    assert set(one).isdisjoint(three)
    assert "secret" not in "".join(proxy.lines)
