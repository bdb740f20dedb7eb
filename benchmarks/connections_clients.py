"""Clients of `connections.py` on raw sockets: some behave, most do not."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

ANSWER = 48  # tokens of an answer that is read whole
LONG = 300  # tokens of one that is read slowly or left
SMALL_BUFFER = 4096  # bytes that the kernel keeps for a slow reader
SLOW_BYTES, SLOW_S = 16, 2.0  # read at once, and between two reads
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST
_PATIENCE_S = 60.0


@dataclass
class Target:
    """Where the service is, and what it is asked with."""

    address: tuple[str, int]
    model: str
    key: str
    until: float  # on the loop's clock
    tally: Counter[str] = field(default_factory=Counter)
    open_now: int = 0
    most_open: int = 0
    tokens_read: int = 0  # in answers that were read whole

    def request(self, tokens: int, **more: Any) -> bytes:
        """A chat of about 200 bytes whose prompt is like no other."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": f"{random.random()} " + "tell me " * 15}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        return self.head(raw := json.dumps(body).encode(), len(raw))

    def head(self, sent: bytes, length: int) -> bytes:
        """A request that announces `length` bytes, with those that are sent now."""
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self.address[0]}\r\n"
            f"authorization: Bearer {self.key}\r\ncontent-type: application/json\r\n"
            f"content-length: {length}\r\n\r\n"
        ).encode() + sent

    @property
    def left_s(self) -> float:
        """Seconds until the end."""
        return self.until - asyncio.get_running_loop().time()


class Connection:
    """One TCP connection that speaks HTTP/1.1."""

    def __init__(self, target: Target, receive_buffer: int | None = None) -> None:
        self._target = target
        self._buffer = b""
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def __aenter__(self) -> Connection:
        await asyncio.get_running_loop().sock_connect(self._socket, self._target.address)
        self._target.open_now += 1
        self._target.most_open = max(self._target.most_open, self._target.open_now)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._target.open_now -= 1
        self._socket.close()

    def vanish(self) -> None:
        """Be gone without a word when closed."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def some(self, most: int = 65_536) -> bytes:
        """What has come; empty when the other side has closed."""
        return await asyncio.get_running_loop().sock_recv(self._socket, most)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Status and headers of the next response.

        Raises:
            ConnectionError: the connection ended before them.
        """
        await self._until(b"\r\n\r\n")
        raw, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines]
        return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def body(self, headers: dict[str, str]) -> bytes:
        """The whole body that goes with these headers."""
        if "chunked" not in headers.get("transfer-encoding", ""):
            length = int(headers.get("content-length", "0"))
            while len(self._buffer) < length:
                await self._more()
            found, self._buffer = self._buffer[:length], self._buffer[length:]
            return found
        parts = []
        while True:
            await self._until(b"\r\n")
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            length = int(size, 16)
            while len(self._buffer) < length + 2:
                await self._more()
            parts.append(self._buffer[:length])
            self._buffer = self._buffer[length + 2 :]
            if not length:
                return b"".join(parts)

    async def _until(self, mark: bytes) -> None:
        while mark not in self._buffer:
            await self._more()

    async def _more(self) -> None:
        data = await asyncio.wait_for(self.some(), _PATIENCE_S)
        if not data:
            raise ConnectionError("closed in the middle of a response")
        self._buffer += data


Client = Callable[[Target], Awaitable[None]]


async def keep_alive(target: Target) -> None:
    """One small request, and then nothing on an open connection."""
    async with Connection(target) as connection:
        await connection.send(target.request(1))
        status, headers = await connection.head()
        await connection.body(headers)
        target.tally[f"keep-alive: {status}"] += 1
        try:
            closed = await asyncio.wait_for(connection.some(), max(target.left_s, 0))
        except TimeoutError:
            return
        target.tally["keep-alive: closed meanwhile" if not closed else "keep-alive: data"] += 1


async def whole(target: Target) -> None:
    """Streams, one after the other on one connection, each read to its end and checked."""
    async with Connection(target) as connection:
        while target.left_s > 2.0:
            await connection.send(target.request(ANSWER))
            status, headers = await connection.head()
            body = await connection.body(headers)
            if status != 200:
                target.tally[f"whole: {status}"] += 1
                await rest(target, retry_s(headers))
                continue
            found = completion_tokens(body)
            target.tokens_read += found or 0
            target.tally["whole: as asked" if found == ANSWER else "whole: NOT whole"] += 1
            await rest(target, random.uniform(2.0, 6.0))


def completion_tokens(stream: bytes) -> int | None:
    """Tokens of an answer by its own count; None where the stream does not end as it should."""
    events = [line[6:] for line in stream.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1].strip() != b"[DONE]":
        return None
    counts = [found["usage"] for found in map(json.loads, events[:-1]) if found.get("usage")]
    return int(counts[-1]["completion_tokens"]) if counts else None


async def slow(target: Target) -> None:
    """A long stream, read a few bytes at a time from a small buffer to the end of the run."""
    async with Connection(target, SMALL_BUFFER) as connection:
        if not await admitted(target, connection, "slow", logprobs=True, top_logprobs=5):
            return
        while target.left_s > 0:
            if not await connection.some(SLOW_BYTES):
                target.tally["slow: closed by the other side"] += 1
                return
            await rest(target, SLOW_S)
        connection.vanish()


async def vanishing(target: Target) -> None:
    """Streams that are left in the middle without a word, again and again."""
    while target.left_s > 2.0:
        async with Connection(target) as connection:
            connection.vanish()
            await rest(target, random.uniform(0.5, 10.0))
            if not await admitted(target, connection, "vanish"):
                return
            for _ in range(random.randrange(20)):
                if not await connection.some():
                    break
            await rest(target, random.uniform(0.0, 1.0))


async def admitted(target: Target, connection: Connection, who: str, **more: Any) -> bool:
    """Ask for a long stream until it begins; False when the time is over."""
    while target.left_s > 2.0:
        await connection.send(target.request(LONG, **more))
        status, headers = await connection.head()
        target.tally[f"{who}: {status}"] += 1
        if status == 200:
            return True
        await connection.body(headers)
        await rest(target, retry_s(headers))
    return False


async def half(target: Target) -> None:
    """A body that never ends: short or longer than the proxy's buffer, left or kept open."""
    while target.left_s > 2.0:
        length, sent = random.choice([(4_000, 2_000), (400_000, 200_000), (120_000, 110_000)])
        async with Connection(target) as connection:
            await rest(target, random.uniform(0.5, 3.0))
            await connection.send(target.head(b'{"model": "' + b"x" * sent, length))
            stay_s = random.choice([0.0, random.uniform(0.0, 10.0), _PATIENCE_S])
            try:
                status, _ = await asyncio.wait_for(connection.head(), min(stay_s, target.left_s))
                target.tally[f"half: {status}"] += 1
            except TimeoutError:
                target.tally["half: left without an answer"] += 1
            except ConnectionError:
                target.tally["half: closed by the other side"] += 1


def retry_s(headers: dict[str, str]) -> float:
    """What a refusal says of coming back, in seconds."""
    return float(headers.get("retry-after-ms", 1000.0 * float(headers.get("retry-after", 1)))) / 1e3


async def rest(target: Target, seconds: float) -> None:
    """Wait, at most until the end."""
    await asyncio.sleep(max(min(seconds, target.left_s), 0.0))


async def surviving(client: Client, name: str, target: Target) -> None:
    """Run a client; a connection that breaks is counted, and made again."""
    while target.left_s > 2.0:
        try:
            await client(target)
        except (OSError, ConnectionError, TimeoutError) as error:
            target.tally[f"{name}: {type(error).__name__}"] += 1
            await rest(target, 1.0)
