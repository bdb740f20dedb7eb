from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from forebay.load.timing import Alarm

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def rung(make_loop: Callable[[], asyncio.AbstractEventLoop], *settings: float | None) -> float:
    """When an alarm rang that was set to each of these times (seconds from now) in turn."""

    async def wait() -> float:
        rings: asyncio.Queue[float] = asyncio.Queue()
        alarm = Alarm(asyncio.get_running_loop(), lambda: ring())

        def ring() -> None:
            rings.put_nowait(time.perf_counter() - start)
            alarm.set(None)

        start = time.perf_counter()
        for setting in settings:
            alarm.set(None if setting is None else start + setting)
        async with asyncio.timeout(30):
            when = await rings.get()
        alarm.close()
        assert rings.empty()
        return when

    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(wait())


@pytest.mark.parametrize("make_loop", LOOPS)
def test_it_never_rings_early(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    assert rung(make_loop, 0.0123) >= 0.0123


@pytest.mark.parametrize("make_loop", LOOPS)
def test_the_last_setting_counts(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    assert rung(make_loop, 0.001, 3600.0, None, 0.02) >= 0.02


@pytest.mark.parametrize("make_loop", LOOPS)
def test_what_is_past_rings_at_once(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    assert rung(make_loop, 3600.0, -1.0) >= 0.0


@pytest.mark.parametrize("make_loop", LOOPS)
def test_it_rings_again_after_it_was_set_again(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def ring_thrice() -> list[float]:
        rings: list[float] = []
        done = asyncio.Event()

        def ring() -> None:
            rings.append(time.perf_counter())
            alarm.set(None if len(rings) == 3 else rings[-1] + 0.002)
            if len(rings) == 3:
                done.set()

        alarm = Alarm(asyncio.get_running_loop(), ring)
        alarm.set(time.perf_counter())
        async with asyncio.timeout(30):
            await done.wait()
        alarm.close()
        return rings

    with asyncio.Runner(loop_factory=make_loop) as runner:
        first, second, third = runner.run(ring_thrice())
    assert second - first >= 0.002
    assert third - second >= 0.002
