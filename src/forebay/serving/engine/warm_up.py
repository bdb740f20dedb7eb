"""An engine's first prompts, run before anybody else's so that its first rates are measured."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from forebay.policies.admission import AdmissionController
from forebay.policies.request import INTERACTIVE, Admitted, RequestShape, Ticket
from forebay.serving.engine.engine_hooks import CURRENT_TICKET, EngineHooks

OUTPUT_TOKENS = 16
_PROMPTS = 8
_TOKENS = 512
_SHORT_PROMPTS = 4
_SHORT_TOKENS = 16
_LONG_STEPS = 4  # whole steps of tokens in a very long prompt

RunPrompt = Callable[[list[int]], Awaitable[None]]


async def warm_up(
    admission: AdmissionController,
    tap: EngineHooks,
    vocabulary: int,
    clock: Callable[[], float],
    run: RunPrompt,
) -> None:
    """Run some prompts of random tokens.

    The first round compiles, the second measures how prompts drain, and by the answers of some
    short ones what their tokens add to a step. The third shows how much longer a very long prompt
    takes than its tokens would by that, the last how fast tokens come when every slot is taken.

    Args:
        admission: learns from them.
        tap: forgets them.
        vocabulary: token ids below it exist.
        clock: seconds.
        run: puts one prompt to the engine, to be answered with `OUTPUT_TOKENS`, and awaits its end.
    """
    half = max(admission.costs.context_tokens // 2, 1)
    usual = [*(_SHORT_PROMPTS * [_SHORT_TOKENS]), *(_PROMPTS * [min(_TOKENS, half)])]
    very_long = [min(_LONG_STEPS * admission.config.step_tokens, half)]
    rng = random.Random(0)

    async def one(prompt: list[int]) -> Ticket | None:
        shape = RequestShape(prompt_bytes=0, prompt_ids=len(prompt), max_tokens=OUTPUT_TOKENS)
        decision = admission.decide(admission.costs.price(shape), INTERACTIVE, clock())
        if not isinstance(decision, Admitted):
            return None
        CURRENT_TICKET.set(decision.ticket)
        try:
            await run(prompt)
        finally:
            tap.waiting.release(admission.close(decision.ticket, clock()))
            tap.forget(decision.ticket)
        return decision.ticket

    took_s = []
    for lengths in (usual, usual, very_long, admission.config.slots * [_SHORT_TOKENS]):
        if lengths is usual:
            admission.paces.forget()
        # Or the engine would be too busy for a very long prompt, and too late for many at once.
        admission.waits.forget()
        made = [
            [rng.randrange(vocabulary // 2, vocabulary) for _ in range(tokens)]
            for tokens in lengths
        ]
        tickets = await asyncio.gather(*(one(prompt) for prompt in made))
        took_s.append(_first_tokens_s([ticket for ticket in tickets if ticket is not None]))
    each = usual[-1]
    admission.paces.effort.measure(each, took_s[1] * each / sum(usual), very_long[0], took_s[2])
    admission.forget_warm_up()
    shape = RequestShape(prompt_bytes=0, prompt_ids=very_long[0], max_tokens=OUTPUT_TOKENS)
    admission.waits.own.saw_long(admission.costs.price(shape), took_s[2])


def _first_tokens_s(tickets: list[Ticket]) -> float:
    """Seconds from the first of them to the last one's first token."""
    ends = [t.first_token_at for t in tickets if t.first_token_at is not None]
    return max(ends) - min(t.admitted_at for t in tickets) if ends else 0.0
