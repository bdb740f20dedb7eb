"""Requests that wait at the gate until their tickets are released to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from forebay.policies.request import Ticket
from forebay.serving.http import ClientGoneError, Message, Receive


class GateQueue:
    """Held requests, each waiting for its ticket."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiting: dict[Ticket, asyncio.Future[None]] = {}

    def release(self, tickets: Iterable[Ticket]) -> None:
        """These may go to the engine; whoever waits for one of them goes on."""
        for ticket in tickets:
            free = self._waiting.get(ticket)
            if free is not None and not free.done():
                free.set_result(None)

    @asynccontextmanager
    async def released(self, ticket: Ticket, receive: Receive) -> AsyncIterator[Receive]:
        """Wait until a held ticket is released; gives the `receive` to be used from then on.

        Raises:
            ClientGoneError: the client left meanwhile.
        """
        free = self._waiting[ticket] = asyncio.get_running_loop().create_future()
        # The body has been read: what comes next is that the client has gone, or nothing.
        client = asyncio.ensure_future(receive())
        try:
            await asyncio.wait((free, client), return_when=asyncio.FIRST_COMPLETED)
            if not free.done():
                raise ClientGoneError
            yield _going_on(client, receive)
        finally:
            del self._waiting[ticket]
            client.cancel()


def _going_on(begun: asyncio.Future[Message], receive: Receive) -> Receive:
    """A `receive` whose first message is the one that was being waited for."""
    pending = True

    async def receive_next() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return await begun
        return await receive()

    return receive_next
