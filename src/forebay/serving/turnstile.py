"""The requests of a burst go to the engine one behind the other, not side by side.

An event loop does in each of its turns all that is ready. A request takes about half a dozen turns
to the engine, so 64 that come at once are all there after the work for all of them, and the engine
has nothing to compute until then: a tenth of a second on a busy core (record 0033). Here a few are
on their way at a time, so that it computes the first while others are still being read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from forebay.policies.ledger import Ticket

_DECIDED_AT_ONCE = 4  # of two turns: who waits is woken in one and goes on in the next
_ON_THEIR_WAY = 4
# Some wait on their way for something else than this process: images that vLLM fetches.
_LONGEST_S = 0.05


class Turnstile:
    """Whose turn it is, in the order in which they came. Use it inside one event loop."""

    def __init__(self) -> None:
        """Nobody is on the way."""
        self._decisions = asyncio.Semaphore(_DECIDED_AT_ONCE)
        self._places = asyncio.Semaphore(_ON_THEIR_WAY)
        self._on_their_way: dict[Ticket, asyncio.TimerHandle] = {}

    async def decision(self) -> None:
        """Wait until there is time to decide on one more request."""
        await self._decisions.acquire()
        asyncio.get_running_loop().call_soon(self._decisions.release)

    @asynccontextmanager
    async def passage(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait until one more may go to the engine; until `arrived` it is on its way there."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        self._on_their_way[ticket] = loop.call_later(_LONGEST_S, self.arrived, ticket)
        try:
            yield
        finally:
            self.arrived(ticket)

    def arrived(self, ticket: Ticket) -> None:
        """It is in the engine, or will not come there: the next may go."""
        timer = self._on_their_way.pop(ticket, None)
        if timer is not None:
            timer.cancel()
            self._places.release()

    def __repr__(self) -> str:
        return f"<Turnstile {len(self._on_their_way)} on their way>"
