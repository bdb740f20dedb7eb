"""Prompts that take half of their budget: cut and side by side, cut and in turns, not cut.

In virtual time: real admission in front of the engine model, in steps of 2,048 tokens. As shipped,
prompts are cut only where others are much shorter (record 0023), so the first few here. The engine
takes 0.15 ms for a prompt token, half of what two cores of AVX2 take for the demo model in float32;
the workload is 2,800 tokens in, 48 out, offered for a minute at some multiples of what the engine
finishes when it never lacks any.

Run as: PYTHONPATH=tests/support python benchmarks/long_prompts_in_time.py
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from unittest.mock import patch

from one_replica import DEMO, OneReplica, capacity, p, poisson

from forebay.engine_model.profile import EngineProfile
from forebay.engine_model.step_time import StepTime
from forebay.policies import prompt_parts, turns
from tables import print_table

PROMPT, ANSWER = 2800, 48
STEP = StepTime(base=8e-3, prefill_token=0.15e-3, decode_sequence=0.33e-3)
FACTORS, SECONDS, SEED = (0.85, 1.7, 2.55), 60.0, 3
# Parts of a step; times the usual prompt from which on one is long; and how much of the budget a
# prompt takes that has to wait its turn.
WAYS = {
    "in parts, side by side": (8, 0.01, inf),
    "in parts, in turns": (8, 0.01, turns._MUCH),
    "not cut": (1, 0.01, turns._MUCH),
    "as shipped": (8, prompt_parts._LONG, turns._MUCH),
}


def main() -> None:
    rows = []
    for way, (parts, long, much) in WAYS.items():
        with (
            patch.object(prompt_parts, "_PARTS", parts),
            patch.object(prompt_parts, "_LONG", long),
            patch.object(turns, "_MUCH", much),
        ):
            part = prompt_parts.part_tokens(DEMO.max_num_batched_tokens)
            profile = replace(DEMO, step_time=STEP, max_model_len=16_384)
            profile = profile.with_forebay_scheduler(part)
            most = capacity(PROMPT, ANSWER, profile)
            rows += [(way, f"{factor:g}", *played(profile, factor * most)) for factor in FACTORS]
    print_table(["prompts", "x capacity", "good/s", "refused", "TTFT p50 s", "TTFT p99 s"], rows)


def played(profile: EngineProfile, rate: float) -> tuple[float, int, float, float]:
    """Good requests/s, refused ones, and two percentiles of TTFT in seconds."""
    replica = OneReplica(profile=profile)
    asks = poisson(rate, SECONDS, PROMPT, ANSWER, start=replica.now, seed=SEED)
    fates = replica.run(asks)
    served = [fate for fate in fates if fate.ttft_s is not None]
    good = sum(fate.good for fate in fates) / SECONDS
    return good, len(fates) - len(served), p(served, 50), p(served, 99)


if __name__ == "__main__":
    main()
