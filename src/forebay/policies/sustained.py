"""What one replica sustains within its promises, from the law of its steps.

Steps as long as promised between two tokens of an answer leave, beside what every step costs, time
for prompts and answers, and both share it: who spends half of it on prompts has half left for
answers. So each is told as if it had all of it. An engine whose slots or step size end sooner does
no more than they allow.
"""

from __future__ import annotations

from typing import NamedTuple

from forebay.policies.step_law import StepLaw

# A promise tighter than this many of the shortest steps is taken for this many: to keep it, a
# replica would have to be all but idle.
_LEAST_STRETCH = 1.25


class Sustained(NamedTuple):
    """Tokens/s that a replica computes when it does nothing else of either kind."""

    prefill: float
    decode: float


def sustained(law: StepLaw, slots: int, step_tokens: int, tpot_s: float) -> Sustained | None:
    """The rates that keep the promise; None while the law does not tell its parts apart.

    Args:
        law: of the engine's steps.
        slots: sequences it runs at once.
        step_tokens: most tokens it computes in one step.
        tpot_s: promised seconds between two tokens of an answer.
    """
    if not (law.known and law.per_sequence_s and law.per_token_s):
        return None
    step_s = max(tpot_s, _LEAST_STRETCH * law.seconds(1, 0))
    tokens = min((step_s - law.base_s) / law.per_token_s, float(step_tokens))
    sequences = min((step_s - law.base_s) / law.per_sequence_s, float(slots))
    return Sustained(
        tokens / law.seconds(0, tokens),
        sequences / law.seconds(sequences, 0),
    )
