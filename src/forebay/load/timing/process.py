"""What a process needs that keeps thousands of connections until it is told to end."""

from __future__ import annotations

import asyncio
import resource


def raise_file_limit() -> None:
    """Allows as many connections as the system does: an overloaded open loop makes thousands."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set by then."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
