"""The requests of a burst go to the engine one behind the other, not side by side.

An event loop does in each of its turns all that is ready. A request takes about half a dozen turns
to the engine, so 64 that come at once are all there after the work for all of them, and the engine
has nothing to compute until then: a tenth of a second on a busy core (record 0033). Here a few are
on their way at a time, so that it computes the first while others are still being read.
"""

from __future__ import annotations

import asyncio

from forebay.policies.request import Ticket

_LET_IN_AT_ONCE = 4  # in two turns: who waits is woken in one and goes on in the next
_ON_THEIR_WAY = 4
# Some wait on their way for something else than this process: images that vLLM fetches.
_LONGEST_S = 0.05
_TICK_S = 0.001  # of uvloop's clock: a timer may find it a hair before its time


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


class InflightLimiter:
    """Whose turn it is, in the order in which they came. Use it inside one event loop."""

    def __init__(self) -> None:
        """Nobody is on the way."""
        self._decisions = asyncio.Semaphore(_LET_IN_AT_ONCE)
        self._places = asyncio.Semaphore(_ON_THEIR_WAY)
        self._on_their_way: dict[Ticket, float] = {}  # since when, by the loop's clock
        self._looks: asyncio.TimerHandle | None = None  # for whom nobody waits any longer

    async def decision(self) -> Turn:
        """Wait until there is time for one more to be let in."""
        await self._decisions.acquire()
        turn = Turn(self._decisions)
        asyncio.get_running_loop().call_soon(turn.ended)  # also where the fleet is asked first
        return turn

    async def enter(self, ticket: Ticket) -> None:
        """Wait until one more may go to the engine; until `arrived` it is on its way there."""
        await self._places.acquire()
        self._on_their_way[ticket] = asyncio.get_running_loop().time()
        if self._places.locked():
            self._look_later()

    def arrived(self, ticket: Ticket) -> None:
        """It is in the engine, or will not come there: the next may go. Again, it does nothing."""
        if self._on_their_way.pop(ticket, None) is not None:
            self._places.release()

    def _look_later(self) -> None:
        """Look for who takes too long, as soon as somebody does; not while there is a place."""
        if self._looks is None and self._on_their_way:
            loop, since = asyncio.get_running_loop(), next(iter(self._on_their_way.values()))
            self._looks = loop.call_at(since + _LONGEST_S, self._look)

    def _look(self) -> None:
        self._looks, now = None, asyncio.get_running_loop().time()
        since = now - _LONGEST_S + _TICK_S
        for ticket in [one for one, at in self._on_their_way.items() if at <= since]:
            self.arrived(ticket)
        if self._places.locked():  # by who came later than the one that this look was for
            self._look_later()

    def __repr__(self) -> str:
        return f"<Turnstile {len(self._on_their_way)} on their way>"
