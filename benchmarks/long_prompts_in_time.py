"""Long prompts in virtual time: real admission in front of the engine model, steps of 2,048 tokens.

- half: prompts that take half of their budget: cut and side by side, cut and in turns, not cut.
- giants: prompts that take half of their budget or more, among usual ones of 182 tokens: a part of
  them in every step, and as shipped, where they give way.

Of half: as shipped,
prompts are cut only where others are much shorter, so the first few here. The engine
takes 0.15 ms for a prompt token, half of what two cores of AVX2 take for the demo model in float32;
the workload is 2,800 tokens in, 48 out, offered for a minute at some multiples of what the engine
finishes when it never lacks any.

Of giants: an engine on which a prompt of 9,000 tokens takes 1.5 s alone; a minute and more of usual
ones, of which the p99 is told beside that without giants, as is who of both was refused.

Run as: PYTHONPATH=tests/support python benchmarks/long_prompts_in_time.py [--parts half,giants]
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from math import inf
from unittest.mock import patch

from admissions import CLASSES
from one_replica import DEMO, Ask, Fate, OneReplica, capacity, p, poisson

from forebay.engine_model import EngineProfile, StepTime
from forebay.policies.admission import long_prompt_queue
from forebay.policies.forecast import own_time as priority
from forebay.policies.request import INTERACTIVE, ClassPolicy, prompt_parts
from tables import print_table

PROMPT, ANSWER = 2800, 48
STEP = StepTime(base=8e-3, prefill_token=0.15e-3, decode_sequence=0.33e-3)
FACTORS, SECONDS, SEED = (0.85, 1.7, 2.55), 60.0, 3
# Parts of a step; times the usual prompt from which on one is long; and how much of the budget a
# prompt takes that has to wait its turn.
WAYS = {
    "in parts, side by side": (8, 0.01, inf),
    "in parts, in turns": (8, 0.01, long_prompt_queue._MUCH),
    "not cut": (1, 0.01, long_prompt_queue._MUCH),
    "as shipped": (8, prompt_parts._LONG, long_prompt_queue._MUCH),
}
SLOW = replace(
    DEMO,
    max_model_len=16_384,
    kv_blocks=8_000,
    step_time=StepTime(
        base=4e-3, prefill_token=70e-6, decode_sequence=0.15e-3, prefill_pair=2.2e-8
    ),
)
USUAL, GIANTS, LOADS, EVERY_S, GIANTS_S = (
    (182, 48),
    (4_500, 9_000),
    (0.0, 0.3, 0.6, 0.8),
    (10, 4),
    80.0,
)
DEADLINE_S = 60.0
OF_BUDGET = {"a part in every step": inf, "giving way": priority._MUCH}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="half,giants")
    for part in parser.parse_args().parts.split(","):
        {"half": half, "giants": giants}[part]()


def half() -> None:
    rows = []
    for way, (parts, long, much) in WAYS.items():
        with (
            patch.object(prompt_parts, "_PARTS", parts),
            patch.object(prompt_parts, "_LONG", long),
            patch.object(long_prompt_queue, "_MUCH", much),
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


def giants() -> None:
    rows = [
        (f"{load:g}", tokens, every_s, *among_usual(load, tokens, every_s, way))
        for load in LOADS
        for tokens in GIANTS
        for every_s in EVERY_S
        for way in OF_BUDGET
    ]
    print_table(
        ["x capacity", "giant", "every s", "way", "others' p99 s", "x alone", "others refused",
         "giants served", "in vain", "TTFT p50 s"],
        rows,
    )  # fmt: skip


def among_usual(load: float, tokens: int, every_s: float, way: str) -> tuple[object, ...]:
    """What became of others beside giants, and of these."""
    alone, _ = beside(load, tokens, inf)
    with patch.object(priority, "_MUCH", OF_BUDGET[way]):
        others, theirs = beside(load, tokens, every_s)
    served = [fate for fate in theirs if fate.first_at is not None]
    in_vain = len(theirs) - len(served) - refused(theirs)
    p99, before = (p(fates, 99) if fates else 0.0 for fates in (others, alone))
    times = f"{p99 / before:.2f}" if before else "-"
    whole = f"{len(served)}/{len(theirs)}"
    return way, p99, times, refused(others), whole, in_vain, p(served, 50) if served else "-"


def beside(load: float, tokens: int, every_s: float) -> tuple[list[Fate], list[Fate]]:
    """Usual requests, and the giants among them."""
    patient = ClassPolicy(CLASSES[INTERACTIVE].ttft_s, DEADLINE_S, CLASSES[INTERACTIVE].weight)
    replica = OneReplica(profile=SLOW, classes={**CLASSES, INTERACTIVE: patient})
    start, rate = replica.now, load * capacity(*USUAL, SLOW)
    usual = poisson(rate, GIANTS_S, *USUAL, start=start, seed=SEED) if load else []
    count = int((GIANTS_S - 5) // every_s)
    fates = replica.run([*usual, *(Ask(start + 5 + every_s * k, tokens, 48) for k in range(count))])
    others = [fate for fate in fates if fate.ask.prompt == USUAL[0]]
    return others, [fate for fate in fates if fate.ask.prompt != USUAL[0]]


def refused(fates: list[Fate]) -> int:
    return sum(fate.shed is not None for fate in fates)


if __name__ == "__main__":
    main()
