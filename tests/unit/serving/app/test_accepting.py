"""Servers that take all waiting connections in a turn of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
import uvloop

from forebay.serving.app.accepting import EagerServer
from forebay.serving.http import Receive, Scope, Send, send_response

MANY = 60
_TURNS = 4  # to poll, to accept, and to make the protocols


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await send_response(send, 200, b"{}")


@contextlib.asynccontextmanager
async def listening(kind: type[uvicorn.Server]) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """A started server and its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
    config.load()
    server = kind(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup([listener])
    try:
        yield server, listener.getsockname()[1]
    finally:
        await server.shutdown([listener])


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(scenario: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(scenario())  # type: ignore[arg-type]


async def connected(kind: type[uvicorn.Server]) -> int:
    """Of many connections that wait, those that a server has after a few turns."""
    async with listening(kind) as (server, port):
        with contextlib.ExitStack() as stack:
            for _ in range(MANY):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            await turns(_TURNS)
            return len(server.server_state.connections)


def test_all_waiting_connections_are_taken_at_once() -> None:
    assert run(lambda: connected(EagerServer)) == MANY


def test_uvicorn_alone_takes_one_in_a_turn() -> None:
    """Once it takes them all, `accepting.py` can go."""
    assert run(lambda: connected(uvicorn.Server)) <= _TURNS


def test_each_connection_is_answered_and_sends_without_delay() -> None:
    async def scenario() -> None:
        async with listening(EagerServer) as (server, port):
            clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            for _, writer in clients:
                writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            for reader, _ in clients:
                assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            assert len(server.server_state.connections) == len(clients)
            for connection in server.server_state.connections:
                accepted = connection.transport.get_extra_info("socket")
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for _, writer in clients:
                writer.close()

    run(scenario)


def test_nothing_is_accepted_after_it_stopped() -> None:
    async def scenario() -> None:
        async with listening(EagerServer) as (_, port):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))

    run(scenario)
