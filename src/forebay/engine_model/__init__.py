"""One vLLM replica as arithmetic: its scheduler, its KV blocks, its prefix cache, its step times.

Nothing here computes a token, reads a clock or does IO. The emulated engine plays it in real time
behind the real HTTP app; the simulator plays thousands of them as fast as it goes. It follows
vLLM 0.29's v1 scheduler with `scheduling_policy=priority`; what it leaves out is listed in
docs/decisions/0009-engine-model.md.
"""

from forebay.engine_model.profile import EngineProfile
from forebay.engine_model.profiles import PROFILES, named_profile
from forebay.engine_model.replica_model import EngineModel
from forebay.engine_model.scheduling_hints import (
    FEWEST_LEFT_OUT,
    GIVES_WAY,
    HALF_AT,
    IN_PARTS,
    MOST_ALONE,
    MOST_LEFT_OUT,
    STEP_TOKENS,
    UNTIL_ANSWER,
    SchedulingHints,
    tokens_at,
)
from forebay.engine_model.sequences import EngineRequest, Finish, Output
from forebay.engine_model.step_time import StepTime
from forebay.engine_model.steps import Step
from forebay.engine_model.tokens import answer_tokens, block_name

__all__ = [
    "FEWEST_LEFT_OUT",
    "GIVES_WAY",
    "HALF_AT",
    "IN_PARTS",
    "MOST_ALONE",
    "MOST_LEFT_OUT",
    "PROFILES",
    "STEP_TOKENS",
    "UNTIL_ANSWER",
    "EngineModel",
    "EngineProfile",
    "EngineRequest",
    "Finish",
    "Output",
    "SchedulingHints",
    "Step",
    "StepTime",
    "answer_tokens",
    "block_name",
    "named_profile",
    "tokens_at",
]
