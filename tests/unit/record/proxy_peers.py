"""Both sides of a proxy, by hand: every byte is read and written by the test itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from forebay.record import BlockSize, target_of
from forebay.record.proxy import Proxy
from forebay.record.recorder import Recorder

LONG_S = 30.0  # for what must happen, and would otherwise hang the tests
CHAT = "/v1/chat/completions"
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST = b"0\r\n\r\n"


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(LONG_S):
            return await self.reader.readexactly(size)

    async def expect(self, data: bytes) -> None:
        assert await self.exactly(len(data)) == data

    async def head(self) -> tuple[str, dict[str, str]]:
        """First line and headers, names in lower case."""
        async with asyncio.timeout(LONG_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return first, {name.lower(): value for name, value in pairs}

    async def message(self) -> tuple[str, dict[str, str], bytes]:
        """Head and body, out of its framing."""
        first, headers = await self.head()
        if "content-length" in headers:
            return first, headers, await self.exactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") != "chunked":
            return first, headers, b""
        pieces = []
        async with asyncio.timeout(LONG_S):
            while size := int(await self.reader.readline(), 16):
                pieces.append(await self.reader.readexactly(size))
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
        return first, headers, b"".join(pieces)

    async def until_closed(self) -> bytes:
        """What still comes; a reset counts as a close."""
        pieces = []
        async with asyncio.timeout(LONG_S):
            try:
                while piece := await self.reader.read(1 << 16):
                    pieces.append(piece)
            except ConnectionError:
                pass
        return b"".join(pieces)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@dataclass
class Upstream:
    """A server whose answers the test writes."""

    url: str = ""
    accepted: int = 0
    waiting: asyncio.Queue[Peer] = field(default_factory=asyncio.Queue)
    peers: list[Peer] = field(default_factory=list)

    async def accept(self) -> Peer:
        async with asyncio.timeout(LONG_S):
            return await self.waiting.get()


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    found = Upstream()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.accepted += 1
        found.peers.append(Peer(reader, writer))
        found.waiting.put_nowait(found.peers[-1])

    server = await asyncio.start_server(accepted, "127.0.0.1", 0, limit=1 << 20)
    host, port = server.sockets[0].getsockname()[:2]
    found.url = f"http://{host}:{port}"
    try:
        yield found
    finally:
        server.close()
        for peer in found.peers:
            await peer.close()
        await server.wait_closed()


@dataclass
class Proxied:
    """A proxy and what it recorded."""

    proxy: Proxy
    lines: list[str]
    clients: list[Peer] = field(default_factory=list)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    async def connect(self) -> Peer:
        parts = urlsplit(self.proxy.url)
        peer = Peer(*await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20))
        self.clients.append(peer)
        return peer


@asynccontextmanager
async def proxied(url: str, **size: Any) -> AsyncIterator[Proxied]:
    """A proxy before `url`, inside the running loop."""
    lines: list[str] = []
    proxy = Proxy(target_of(url), Recorder(lines.append, BlockSize(**size)))
    found = Proxied(proxy, lines)
    await proxy.start("127.0.0.1", 0)
    try:
        yield found
    finally:
        for client in found.clients:
            await client.close()
        await proxy.close()


def request(
    body: bytes = b"",
    *headers: str,
    method: str = "POST",
    path: str = CHAT,
    version: str = "1.1",
    chunks: Iterable[bytes] | None = None,
) -> bytes:
    """A request; with `chunks`, its body is these."""
    lines = [f"{method} {path} HTTP/{version}", "Host: proxy", *headers]
    if chunks is not None:
        lines.append("Transfer-Encoding: chunked")
        body = b"".join(map(chunk, chunks)) + LAST
    elif body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def chat(content: str = "hello", **more: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": content}], **more}).encode()


def event(text: str) -> bytes:
    values = {"choices": [{"index": 0, "delta": {"content": text}}]}
    return b"data: " + json.dumps(values).encode() + b"\n\n"


def usage(prompt: int, output: int) -> bytes:
    values = {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": output}}
    return b"data: " + json.dumps(values).encode() + b"\n\n"


async def until(condition: Callable[[], object]) -> None:
    """Lets the proxy, which runs in the same loop, go on until something is so."""
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - the proxy has no event for it
            await asyncio.sleep(0)
