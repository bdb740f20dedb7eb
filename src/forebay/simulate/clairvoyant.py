"""The fewest replicas that hold an SLO for somebody who knows every request beforehand.

Not a policy: a mark to measure policies by. Each window of time gets the replicas that its requests
keep busy, at a share of their time that is searched for: the largest at which the SLO is still
held. What a request keeps busy is the engine's own law, with the answers of a full engine in each
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from forebay.engine_model import EngineProfile
from forebay.simulate.requests_and_outcomes import SimRequest


def work_s(ask: SimRequest, profile: EngineProfile, at_once: int) -> float:
    """Seconds of a replica that a request takes, with `at_once` answers in every step."""
    law, context = profile.step_time, ask.prompt + ask.answer / 2
    prompt_s = law.prefill_token * ask.prompt + law.prefill_pair * ask.prompt**2 / 2
    token_s = law.base / at_once + law.decode_sequence + law.context_token * context
    return prompt_s + ask.answer * token_s


def plan(
    asks: Sequence[SimRequest],
    profile: EngineProfile,
    at_once: int,
    *,
    busy: float,
    window_s: float,
) -> list[tuple[float, int]]:
    """(from when on, replicas) such that each window's requests keep them `busy` (a share).

    A window has what its own requests need and what the one before needed: answers take time.
    """
    windows = int(asks[-1].at_s // window_s) + 1 if asks else 0
    needed = [0.0] * windows
    for ask in asks:
        needed[int(ask.at_s // window_s)] += work_s(ask, profile, at_once) / (window_s * busy)
    steps: list[tuple[float, int]] = []
    for index, mine in enumerate(needed):
        before = needed[index - 1] if index else 0.0
        steps.append((index * window_s, ceil(max(mine, before))))
    return [*steps, ((windows + 1) * window_s, 0)]
