"""Predicted time to first token, as a sum of named waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forebay.policies.outputs import Floats, OutputModel

_GRID = 16  # points of the geometric grid, and most caps looked at


@dataclass(frozen=True, slots=True)
class Prediction:
    """Seconds until a request's first token, by what it waits for.

    Attributes:
        ahead_s: prompt tokens queued ahead of it.
        own_s: its own prompt tokens.
        release_s: sequence slots or KV blocks to come free.
        overhead_s: learned correction.
    """

    ahead_s: float
    own_s: float
    release_s: float
    overhead_s: float

    @property
    def raw_s(self) -> float:
        """The model's part: prompts ahead are computed while slots come free."""
        return max(self.ahead_s, self.release_s) + self.own_s

    @property
    def total_s(self) -> float:
        """What the decision uses."""
        return self.raw_s + self.overhead_s


@dataclass(frozen=True, slots=True)
class Wait:
    """What must come free before a request can start: sequence slots and KV tokens (<= 0: none)."""

    slots: int
    kv_tokens: int


def _moments(left: Floats) -> Floats:
    """Steps at which expected ends are evaluated: a geometric grid, and where caps are reached.

    A cap is a jump, so a point just before it stands beside it; of many, some are taken.
    """
    caps = np.unique(np.maximum(left, 1.0))
    if len(caps) > _GRID:
        caps = caps[np.linspace(0, len(caps) - 1, _GRID).astype(int)]
    return np.unique(np.concatenate([np.geomspace(1.0, caps[-1], _GRID), caps, caps - 0.5]))


@dataclass(frozen=True, slots=True)
class Running:
    """One running answer: tokens produced, most it may produce, KV footprint by its end."""

    produced: int
    cap: int
    kv_tokens: int


def release_wait(
    wait: Wait,
    running: Sequence[Running],
    outputs: OutputModel,
    *,
    total_tokens: float,
    capacity: int,
) -> float:
    """Decode steps until enough of the running answers are expected to have ended.

    An answer ends by itself as the learned lengths say, or at its cap for certain; the expected
    number that have ended after some steps is the sum of those probabilities. So capped answers
    that started together are seen to end together, and free ones at a steady pace.

    Args:
        wait: what is needed.
        running: the running answers.
        outputs: learned answer lengths.
        total_tokens: length of a typical answer, for waits that outlast everything now running.
        capacity: sequences the engine runs at once.

    Returns:
        Output tokens that every running sequence still makes before the request can start; each
        takes one TPOT.
    """
    if wait.slots <= 0 and wait.kv_tokens <= 0:
        return 0.0
    if not running:
        return max(wait.slots, 1) * total_tokens / capacity
    produced = np.array([r.produced for r in running], dtype=np.float64)[:, None]
    caps = np.array([r.cap for r in running], dtype=np.float64)[:, None]
    footprints = np.array([r.kv_tokens for r in running], dtype=np.float64)[:, None]
    steps = _moments((caps - produced)[:, 0])
    alive = np.maximum(outputs.survival_at(produced), 1e-9)
    gone = 1.0 - outputs.survival_at(produced + steps) / alive
    gone = np.where(produced + steps >= caps, 1.0, gone)
    slots, kv_tokens = gone.sum(axis=0), (gone * footprints).sum(axis=0)
    needed = max(
        float(np.interp(wait.slots - 0.5, slots, steps)) if wait.slots > 0 else 0.0,
        float(np.interp(wait.kv_tokens, kv_tokens, steps)) if wait.kv_tokens > 0 else 0.0,
    )
    # Everything that runs now has ended and it is not enough: from then on slots come free at the
    # steady pace of a full engine, one every `total_tokens / capacity` steps (Little's law).
    beyond = max(wait.slots - len(running), 0)
    if wait.kv_tokens > kv_tokens[-1]:
        beyond = max(beyond, 1)
    return needed + beyond * total_tokens / capacity
