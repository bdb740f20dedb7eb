"""A scripted HTTP server for the tests here, and the bytes it answers with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Reply:
    """What the server does with one request: pieces to write, then to close, hang or go on."""

    pieces: Sequence[bytes] = ()
    then: str = "go on"  # or "close", or "hang"
    after_s: float = 0.0  # that it takes to think


@dataclass
class Endpoint:
    """A running server and what it saw."""

    port: int = 0
    connections: int = 0
    active: int = 0
    most_active: int = 0
    requests: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def endpoint(script: Callable[[int], Reply]) -> AsyncIterator[Endpoint]:
    """Serves ``script(n)`` to the n-th request."""
    seen, writers = Endpoint(), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        writers.append(writer)
        try:
            while await _answer(seen, script, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def _answer(
    seen: Endpoint,
    script: Callable[[int], Reply],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    reply = script(len(seen.requests))
    seen.heads.append(head)
    seen.requests.append(await reader.readexactly(length))
    seen.active += 1
    seen.most_active = max(seen.most_active, seen.active)
    seen.asked.set()
    await asyncio.sleep(reply.after_s)
    for piece in reply.pieces:
        writer.write(piece)
        await writer.drain()
    seen.active -= 1
    if reply.then == "hang":
        await reader.read()  # until the client gives up
    return reply.then == "go on"


def event(text: str, **more: Any) -> bytes:
    """One completions event carrying ``text``."""
    body = {"choices": [{"index": 0, "text": text, "finish_reason": None}], "usage": None, **more}
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":7,"total_tokens":12,"completion_tokens":5}}\n\n'
)
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "queue full", "type": "Overloaded", "code": 503}}\n\n'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    """One piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*events: bytes) -> list[bytes]:
    """A whole event stream, one chunk an event."""
    return [STREAM_HEAD, *(chunk(data) for data in events), b"0\r\n\r\n"]


def plain(status: int, body: bytes, *headers: str) -> list[bytes]:
    """A whole response with a length."""
    lines = [f"HTTP/1.1 {status} X", *headers, f"Content-Length: {len(body)}"]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + body]


GOOD = Reply(stream(event("a"), event(" b"), event(" c"), DONE))
