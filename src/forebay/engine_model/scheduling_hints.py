"""What admission says of a request to the engine's scheduler (`serving/engine/vllm_scheduler.py`).

vLLM's own schedulers know of a request when it came and its priority. These marks travel in its
`extra_args`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_NAMES = IN_PARTS, GIVES_WAY, STEP_TOKENS, UNTIL_ANSWER, HALF_AT = (
    "forebay_in_parts",
    "forebay_gives_way",
    "forebay_step_tokens",
    "forebay_until_answer",
    "forebay_half_at",
)

# Those who give way are left out where they are at least this share of what runs, or have prompts
# to compute. Fewer make a step hardly longer; where interactive requests take nearly all of an
# engine, what batch has by its weight would take slots for longer, and others would wait for these.
FEWEST_LEFT_OUT = 0.25
# Most steps in a row in which those who give way are left out. Where every step has an interactive
# prompt they get every ninth, so that what batch has begun ends, and frees its slots and blocks.
MOST_LEFT_OUT = 8
# Most steps in a row that compute only a few prompt tokens of those who give way, while they have
# the engine to themselves. Who comes once nobody else does brings no limit, but a long prompt would
# keep to its own for thousands of steps.
MOST_ALONE = 100


def tokens_at(place: int, step_tokens: int, half_at: int) -> int:
    """Prompt tokens that a step computes from a place in it; 0: no limit.

    A token is compared with all before it, so its time grows with its place. Where the one at
    `half_at` takes twice what the first does, steps take as long at the end of a prompt as at its
    beginning.
    """
    if not (step_tokens and half_at):
        return step_tokens
    return max(step_tokens * half_at // (half_at + place), 1)


class SchedulingHints(NamedTuple):
    """The marks of one request.

    Attributes:
        in_parts: its prompt has to be cut (`prompt_parts.py`).
        gives_way: it computes nothing in a step that computes an interactive prompt.
        step_tokens: most prompt tokens that a step computes of all who give way, as the newest of
            them has it; 0: no limit.
        until_answer: it gives way only until its prompt is computed: its answer is as any other.
        half_at: place in its prompt at which a step computes half of `step_tokens`, by
            `tokens_at`; 0: the same number everywhere.
    """

    in_parts: bool = False
    gives_way: bool = False
    step_tokens: int = 0
    until_answer: bool = False
    half_at: int = 0

    @staticmethod
    def stripped(args: Mapping[str, Any] | None) -> dict[str, Any]:
        """`extra_args` without any."""
        return {name: value for name, value in (args or {}).items() if name not in _NAMES}

    @classmethod
    def read(cls, args: Mapping[str, Any] | None) -> SchedulingHints:
        """Those that `extra_args` have."""
        in_parts, gives_way, step_tokens, until_answer, half_at = (
            int((args or {}).get(name, 0)) for name in _NAMES
        )
        return cls(bool(in_parts), bool(gives_way), step_tokens, bool(until_answer), half_at)

    def as_args(self) -> dict[str, int]:
        """As `extra_args`: those that are set."""
        return {name: value for name, value in zip(_NAMES, self, strict=True) if value}
