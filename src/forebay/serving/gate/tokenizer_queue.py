"""Turns for those who ask for the tokenizer alone.

vLLM tokenizes in one thread, through which every prompt has to pass on its way to the engine, and
a megabyte takes it a second. Such requests are no work for the engine, so nothing else bounds them:
one at a time has the thread, and then leaves it to the prompts for three times as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from forebay.serving.http import RequestRefusedError, retry_headers

_MOST_WAITING = 8
_REST = 3.0  # times as long as a turn took
_LONGEST_REST_S = 2.0
_RETRY_S = 1.0


class TokenizerTurns:
    """Whose turn it is. Make and use it inside one event loop."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._taken = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it.

        Raises:
            RequestRefusedError: 429: too many wait already.
        """
        if self._waiting >= _MOST_WAITING:
            raise RequestRefusedError(
                429,
                f"{_MOST_WAITING} others wait for the tokenizer already.",
                "tokenizer_busy",
                headers=retry_headers(_RETRY_S),
            )
        self._waiting += 1
        try:
            await self._taken.acquire()
        finally:
            self._waiting -= 1
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            rest_s = min(_REST * (loop.time() - began), _LONGEST_REST_S)
            loop.call_later(rest_s, self._taken.release)

    def __repr__(self) -> str:
        return f"<TokenizerTurns {self._waiting} wait>"
