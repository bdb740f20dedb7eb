"""A client that hides nothing: it sends bytes and shows what came back, framing included."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

LONG_S = 30.0  # for what must happen, and would otherwise hang the tests


@dataclass
class Response:
    """One HTTP response, its body taken out of its framing."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[Any]:
        """The body's events; `[DONE]` stays a string."""
        assert self.headers["content-type"].startswith("text/event-stream")
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == "", "the stream ends inside an event"
        assert all(line.startswith("data: ") for line in lines)
        return [line[6:] if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, url: str) -> RawClient:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    def send(
        self,
        body: Any = None,
        path: str = "/v1/completions",
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
    ) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: h", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    async def head(self) -> tuple[int, dict[str, str]]:
        async with asyncio.timeout(LONG_S):
            text = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = text.rstrip("\r\n").split("\r\n")
        return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines)

    async def body(self, headers: Mapping[str, str]) -> bytes:
        async with asyncio.timeout(LONG_S):
            if "content-length" in headers:
                return await self.reader.readexactly(int(headers["content-length"]))
            assert headers["transfer-encoding"] == "chunked"
            pieces = []
            while size := int(await self.reader.readline(), 16):
                pieces.append(await self.reader.readexactly(size))
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
            return b"".join(pieces)

    async def receive(self) -> Response:
        status, headers = await self.head()
        return Response(status, headers, await self.body(headers))

    async def until_closed(self) -> bytes:
        async with asyncio.timeout(LONG_S):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def until(condition: Callable[[], object]) -> None:
    """Lets the server, which runs in the same loop, go on until something is so."""
    async with asyncio.timeout(LONG_S):
        while not condition():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0)


async def ask(url: str, body: Any = None, **how: Any) -> Response:
    """One request on a connection of its own."""
    client = await RawClient.connect(url)
    try:
        client.send(body, **how)
        return await client.receive()
    finally:
        await client.close()


async def ask_until_closed(url: str, body: Any = None, **how: Any) -> bytes:
    """Every byte of an answer that the server ends by closing."""
    client = await RawClient.connect(url)
    try:
        client.send(body, **how)
        return await client.until_closed()
    finally:
        await client.close()


def completion(max_tokens: int = 3, *, stream: bool = True, **more: Any) -> dict[str, Any]:
    """A request for completions, its prompt four words long."""
    body = {"model": "any", "prompt": "one two three four", "max_tokens": max_tokens}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body | more


def text_of(events: list[Any]) -> str:
    """The text that a client puts together from an answer's events."""
    choices = [event["choices"][0] for event in events if event != "[DONE]" and event["choices"]]
    return "".join(c["text"] if "text" in c else c["delta"]["content"] for c in choices)
