"""The engine of a simulated fleet and the emulated engine give the same tokens at the same times.

The same requests go through `simulate/engine_player.py`, which takes stretches of equal steps as
one, and through the event-loop shell of `serving/emulated/emulated_engine.py` under a clock that
jumps to whatever is due next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from forebay.engine_model import EngineProfile, EngineRequest, named_profile
from forebay.serving.emulated import EmulatedEngine
from forebay.serving.emulated import emulated_engine as emulated
from forebay.simulate.engine_player import EnginePlayer

TURNS = 8  # of the event loop, after which nothing is left to do at one moment


@dataclass(frozen=True)
class Ask:
    """A request: its name, when it is sent, the tokens of its prompt and answer."""

    name: str
    at_s: float
    prompt: list[int]
    answer: int


@dataclass
class JumpingClock:
    """Time that stands still until it is told to jump; an alarm that rings when it gets there."""

    now: float = 0.0
    due: float | None = None

    def __call__(self) -> float:
        return self.now

    def set(self, due: float | None) -> None:
        self.due = due

    def close(self) -> None:
        self.due = None


@dataclass
class Heard:
    """When each token of each answer came."""

    times: dict[str, list[float]] = field(default_factory=dict)

    def hear(self, name: str, tokens: int, now: float) -> None:
        self.times.setdefault(name, []).extend([now] * tokens)


def asks(profile: EngineProfile, rate: float, count: int, seed: int) -> list[Ask]:
    """Poisson; prompts of up to three steps, some of which begin alike."""
    rng = np.random.default_rng(seed)
    shared = rng.integers(1, 1000, 512).tolist()
    found, at = [], 0.0
    for number in range(count):
        at += float(rng.exponential(1 / rate))
        prompt = rng.integers(1000, 9000, int(rng.integers(1, 1500))).tolist()
        if rng.random() < 0.4:
            prompt = shared + prompt
        prompt = prompt[: profile.max_model_len // 2]
        found.append(Ask(f"{number:09}", at, prompt, int(rng.integers(1, 120))))
    return found


def simulated(profile: EngineProfile, wanted: list[Ask], *, skip: bool) -> Heard:
    """As a simulated replica plays them."""
    player, heard = EnginePlayer(profile, skip=lambda: skip), Heard()

    def go_on(until: float) -> None:
        for done in player.until(until):
            for output in done.outputs:
                for end in done.ends[-output.new_tokens :]:
                    heard.hear(output.request_id, 1, end)

    for ask in wanted:
        go_on(ask.at_s)
        request = EngineRequest(
            ask.name, ask.prompt, ask.answer, ask.answer + 1, 0, answer=[7] * ask.answer
        )
        player.add(request, ask.at_s)
    go_on(1e9)
    return heard


@contextmanager
def jumping(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[JumpingClock, list[Callable[[], None]]]]:
    """The emulated engine's timer, replaced by the clock."""
    clock = JumpingClock()
    rings: list[Callable[[], None]] = []

    def alarm(_loop: object, ring: Callable[[], None]) -> JumpingClock:
        rings.append(ring)
        return clock

    monkeypatch.setattr(emulated, "Alarm", alarm)
    yield clock, rings


async def played(
    profile: EngineProfile, wanted: list[Ask], monkeypatch: pytest.MonkeyPatch
) -> Heard:
    """As the emulated engine plays them, under a jumping clock."""
    heard = Heard()
    with jumping(monkeypatch) as (clock, rings):
        engine = EmulatedEngine(profile, clock)
        tasks = []

        async def one(ask: Ask) -> None:
            stream = engine.generate(ask.name, ask.prompt, ask.answer, ask.answer + 1)
            async for delta in stream:
                heard.hear(ask.name, len(delta.tokens), clock.now)

        left = list(wanted)
        while left or clock.due is not None:
            if clock.due is not None and (not left or clock.due <= left[0].at_s):
                clock.now = clock.due
                rings[0]()
            else:
                clock.now = left[0].at_s
                tasks.append(asyncio.create_task(one(left.pop(0))))
            for _ in range(TURNS):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        engine.close()
    return heard


@pytest.mark.parametrize(
    ("name", "rate", "changes"),
    [
        ("demo-cpu", 20.0, {}),
        ("h100-8b", 40.0, {"max_num_seqs": 16}),
        ("l4-8b", 4.0, {"long_prefill_token_threshold": 512}),
        ("h100-32b", 8.0, {"prefix_caching": False, "max_num_seqs": 8}),
    ],
)
@pytest.mark.parametrize("skip", [True, False])
async def test_the_same_tokens_come_at_the_same_times(
    name: str, rate: float, changes: dict[str, Any], skip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = replace(named_profile(name), **changes)
    wanted = asks(profile, rate, count=60, seed=3)
    one, other = simulated(profile, wanted, skip=skip), await played(profile, wanted, monkeypatch)
    assert one.times.keys() == other.times.keys() == {ask.name for ask in wanted}
    for ask in wanted:
        assert len(one.times[ask.name]) == ask.answer
        assert one.times[ask.name] == pytest.approx(other.times[ask.name], rel=1e-9, abs=1e-9)
