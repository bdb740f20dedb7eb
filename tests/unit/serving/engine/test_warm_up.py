"""What a replica knows of its engine after the warm-up, and what the warm-up leaves behind."""

from __future__ import annotations

import asyncio

import pytest
from gate_world import FakeEngineRequest, FakeOutput, FakeParams, World, responding

from forebay.policies.request import RequestShape
from forebay.serving.engine import OUTPUT_TOKENS
from forebay.serving.engine.warm_up import warm_up

STEP_S = 0.01  # of the engine below, which runs whatever it has, a token of each in a step
COMPILES_S = 9.0
USUAL_TOKENS = 512


class Engine:
    """Runs the warm-up's prompts on the world's clock; its first steps compile."""

    def __init__(self, world: World, *, fails: bool = False, slow_s: float = 0.0) -> None:
        """`slow_s`: for a very long prompt, until it is computed."""
        self._world = world
        self._fails = fails
        self._slow_s = slow_s
        self._left: dict[str, int] = {}
        self._steps = self._prompts = 0

    @property
    def busy(self) -> bool:
        return bool(self._left)

    async def run(self, prompt: list[int]) -> None:
        name, self._prompts = f"w{self._prompts}", self._prompts + 1
        self._world.tap.on_add(FakeEngineRequest(name, prompt, FakeParams(OUTPUT_TOKENS)))
        if self._fails:
            raise RuntimeError("no engine")
        self._left[name] = OUTPUT_TOKENS
        if len(prompt) > USUAL_TOKENS:
            self._world.clock.now += self._slow_s
        while name in self._left:
            await asyncio.sleep(0)
            if name == next(iter(self._left), None):
                self._step()

    def _step(self) -> None:
        self._steps += 1
        self._world.clock.now += COMPILES_S if self._steps <= 3 else STEP_S
        outputs = []
        for name in list(self._left):
            self._left[name] -= 1
            ends = self._left[name] == 0
            outputs.append(FakeOutput(name, [7], "length" if ends else None))
            if ends:
                del self._left[name]
        self._world.tap.on_step(outputs, self._world.clock.now)


def world_of() -> World:
    return World(responding(200, b"{}"))


async def test_compiling_is_not_taken_for_the_engines_pace() -> None:
    world = world_of()
    admission = world.admission
    untouched = admission.waits.lateness.of(0.1, 0.0)
    await warm_up(admission, world.tap, 1000, world.clock, Engine(world).run)
    assert admission.paces.seconds_per_token == pytest.approx(STEP_S, rel=0.01)
    assert admission.waits.lateness.of(0.1, world.clock.now) == untouched
    assert admission.paces.law.seconds(1, 0) < 2 * STEP_S


async def test_prompts_are_measured_beside_answers_and_a_very_long_one_alone() -> None:
    world = world_of()
    rounds: list[list[int]] = []
    engine = Engine(world)

    async def run(prompt: list[int]) -> None:
        if not engine.busy:
            rounds.append([])
        rounds[-1].append(len(prompt))
        await engine.run(prompt)

    await warm_up(world.admission, world.tap, 1000, world.clock, run)
    _, measured, long, full = rounds
    assert min(measured) < max(measured)  # the short ones answer while the others are computed
    assert len(long) == 1
    assert long[0] == world.admission.costs.context_tokens // 2
    assert len(full) == world.admission.config.slots


async def test_a_very_long_prompt_is_not_taken_for_the_pace_of_usual_ones() -> None:
    rates = []
    for slow_s in (0.0, 20.0):
        world = world_of()
        engine = Engine(world, slow_s=slow_s)
        await warm_up(world.admission, world.tap, 1000, world.clock, engine.run)
        rates.append(world.admission.paces.prefill_rate.rate)
    assert rates[1] == pytest.approx(rates[0], rel=0.2)


async def test_what_a_very_long_prompt_took_is_predicted_of_the_next() -> None:
    world = world_of()
    admission = world.admission
    admission.costs.context_tokens = 20_000
    await warm_up(admission, world.tap, 1000, world.clock, Engine(world, slow_s=2.0).run)

    def predicted(tokens: int) -> float:
        shape = RequestShape(prompt_bytes=0, prompt_ids=tokens, max_tokens=OUTPUT_TOKENS)
        return admission.waits.own.own_s(admission.costs.price(shape), world.clock.now)

    assert predicted(8_192) == pytest.approx(2.0, rel=0.1)
    assert predicted(4_096) < 0.5 * predicted(8_192)


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_is_left_behind(fails: bool) -> None:
    world = world_of()
    engine = Engine(world, fails=fails)
    if fails:
        with pytest.raises(RuntimeError, match="no engine"):
            await warm_up(world.admission, world.tap, 1000, world.clock, engine.run)
    else:
        await warm_up(world.admission, world.tap, 1000, world.clock, engine.run)
    assert not world.admission.ledger.tickets
    assert world.admission.ledger.queued_prefill == 0
    world.admission.check_integrity()
