"""The start of an engine that is not there: its time passes, in the parts that a real one has."""

from __future__ import annotations

import asyncio

from forebay.serving.engine import StartClock

# Of the whole: an 8B model from local disk, with its compilation in vLLM's cache.
_SHARES = {"weights": 0.5, "compile": 0.35, "warm_up": 0.15}


async def pass_cold_start(seconds: float, start: StartClock) -> None:
    """Wait as long as the engine would have taken, and say which part took how long."""
    for phase, share in _SHARES.items():
        if seconds:
            await asyncio.sleep(seconds * share)
        start.done(phase)
