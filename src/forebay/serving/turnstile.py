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

_LET_IN_AT_ONCE = 4  # in two turns: who waits is woken in one and goes on in the next
_ON_THEIR_WAY = 4
# Some wait on their way for something else than this process: images that vLLM fetches.
_LONGEST_S = 0.05


class Turn:
    """Time for a decision: gone with the turn of the event loop, unless it is a refusal."""

    __slots__ = ("_taken_of",)

    def __init__(self, taken_of: asyncio.Semaphore) -> None:
        self._taken_of: asyncio.Semaphore | None = taken_of

    def ended(self) -> None:
        """The next may be decided on: at once where this one is refused, which takes no time."""
        if self._taken_of is not None:
            self._taken_of.release()
            self._taken_of = None


class Turnstile:
    """Whose turn it is, in the order in which they came. Use it inside one event loop."""

    def __init__(self) -> None:
        """Nobody is on the way."""
        self._decisions = asyncio.Semaphore(_LET_IN_AT_ONCE)
        self._places = asyncio.Semaphore(_ON_THEIR_WAY)
        self._on_their_way: dict[Ticket, asyncio.TimerHandle] = {}

    async def decision(self) -> Turn:
        """Wait until there is time for one more to be let in."""
        await self._decisions.acquire()
        turn = Turn(self._decisions)
        asyncio.get_running_loop().call_soon(turn.ended)  # also where the fleet is asked first
        return turn

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
