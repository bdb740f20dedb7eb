"""What a warm-up would measure of an emulated engine, from its profile and at once."""

from __future__ import annotations

from forebay.engine_model import EngineProfile
from forebay.policies.admission import AdmissionController
from forebay.policies.request import RequestShape, part_tokens

_PROMPT = 512  # tokens, as in `warm_up`
_OUTPUT = 16
_LONG = 4  # times the context: the law of steps learns what it takes from steps of both
_STEPS = 4  # of each kind that it is taught
_LONG_STEPS = 4  # whole steps of tokens in a long prompt, as in `warm_up`
_BELIEVED_S = 1.0  # of observation that the figures stand for; what is seen soon outweighs them


def teach(admission: AdmissionController, profile: EngineProfile) -> None:
    """Give admission the rates of the profile.

    Prompts alone, one answer, every slot taken, a very long prompt.
    """
    budget = profile.max_num_batched_tokens
    pairs = budget * (_PROMPT + 1) // 2
    prompts_s = profile.step_time.seconds(budget, pairs, 0, 0)
    slots, context = profile.max_num_seqs, _PROMPT + _OUTPUT
    full_s = profile.step_time.seconds(0, 0, slots, slots * context)
    one_s = profile.step_time.seconds(0, 0, 1, context)
    admission.paces.prefill_rate.seed(budget / prompts_s, _BELIEVED_S)
    admission.paces.full_step_rate.seed(1.0 / full_s, _BELIEVED_S)
    admission.paces.step_rate.seed(1.0 / one_s, _BELIEVED_S)
    for sequences in (1, slots // 2, slots):
        for tokens in (0, part_tokens(budget), budget):
            pairs = tokens * (_PROMPT + 1) // 2
            for attended in (sequences * context, sequences * _LONG * context):
                step_s = profile.step_time.seconds(tokens, pairs, sequences, attended)
                for _ in range(_STEPS):
                    admission.paces.law.add(sequences, tokens, step_s, attended)
    _teach_long(admission, profile)


def _teach_long(admission: AdmissionController, profile: EngineProfile) -> None:
    budget, waits = profile.max_num_batched_tokens, admission.waits
    tokens = min(_LONG_STEPS * budget, profile.max_model_len // 2)
    part = part_tokens(budget)
    took_s = sum(
        profile.step_time.seconds(part, part * before + part * (part + 1) // 2, 0, 0)
        for before in range(0, tokens, part)
    )
    shape = RequestShape(prompt_bytes=0, prompt_ids=tokens, max_tokens=_OUTPUT)
    cost = admission.costs.price(shape)
    admission.paces.warmed_up()
    waits.own.saw_long(cost, took_s)
