"""Bodies that come in part: how much of all of them a replica holds."""

from __future__ import annotations

import asyncio

import pytest

from forebay.serving.http import (
    Access,
    BodyReader,
    InputLimits,
    Message,
    RequestRefusedError,
    body_reader,
)

LIMITS = InputLimits(1_000, 8, 4, 4096, None, longest_token=10)
SCOPE = {"type": "http", "headers": []}


class Sender:
    """A client that sends one part, and the other when it is told to."""

    def __init__(self, part: bytes) -> None:
        self._messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True}]
        self.go_on = asyncio.Event()
        self.end: Message = {"type": "http.request", "body": b"end", "more_body": False}

    async def receive(self) -> Message:
        if self._messages:
            return self._messages.pop()
        await self.go_on.wait()
        return self.end


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> BodyReader:
    monkeypatch.setattr(body_reader, "_MOST_IN_PART", 2_000)
    return BodyReader(LIMITS, lambda seconds: seconds)


def reading(reader: BodyReader, sender: Sender) -> asyncio.Task[bytes]:
    return asyncio.create_task(reader.read(SCOPE, sender.receive, Access.COSTED))


@pytest.mark.parametrize(
    ("headers", "stays"),
    [
        ({}, True),
        ({"content-length": "300"}, True),
        ({"content-length": "10000000"}, False),
        ({"content-length": "many"}, False),
        ({"transfer-encoding": "chunked"}, False),
    ],
)
def test_where_a_body_is_not_read_a_connection_on_which_much_may_come_is_closed(
    reader: BodyReader, headers: dict[str, str], stays: bool
) -> None:
    scope = {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    assert list(reader.instead_of(scope)) == ([] if stays else [(b"connection", b"close")])


@pytest.mark.parametrize("end", ["whole", "gone", "given up"])
async def test_what_has_come_in_part_is_bounded_and_let_go_however_it_ends(
    reader: BodyReader, end: str
) -> None:
    slow = [Sender(b"x" * 900) for _ in range(2)]
    tasks = [reading(reader, sender) for sender in slow]
    await asyncio.sleep(0)
    with pytest.raises(RequestRefusedError) as refused:
        await reading(reader, Sender(b"x" * 900))
    assert (refused.value.status, refused.value.code) == (503, "bodies_full")
    assert b"retry-after" in dict(refused.value.headers)
    for sender, task in zip(slow, tasks, strict=True):
        if end == "gone":
            sender.end = {"type": "http.disconnect"}
        if end == "given up":
            task.cancel()
        sender.go_on.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, bytes) for one in found) == (end == "whole")
    later = Sender(b"x" * 900)
    later.go_on.set()
    assert await reading(reader, later) == b"x" * 900 + b"end"


async def test_a_body_that_comes_at_once_needs_no_room(reader: BodyReader) -> None:
    slow = [Sender(b"x" * 1_000) for _ in range(2)]
    tasks = [reading(reader, sender) for sender in slow]
    await asyncio.sleep(0)

    async def whole() -> Message:
        return {"type": "http.request", "body": b"y" * 1_000, "more_body": False}

    assert await reader.read(SCOPE, whole, Access.COSTED) == b"y" * 1_000
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
