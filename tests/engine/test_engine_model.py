"""Needs vLLM installed, no model and no engine: our scheduler beside vLLM's own on random traces.

vLLM's `Scheduler` is driven by hand: it is told that each scheduled sequence sampled the token that
our model gives as its answer. Every step must compute the same tokens of the same requests, find as
much in the prefix cache, preempt as often and leave as many blocks free.
"""

from __future__ import annotations

import random
from dataclasses import replace
from importlib import resources
from typing import Any

import pytest

from forebay.engine_model import (
    EngineModel,
    EngineProfile,
    EngineRequest,
    SchedulingHints,
    StepTime,
    answer_tokens,
)
from forebay.engine_model import scheduler as our_scheduler

pytestmark = pytest.mark.filterwarnings("ignore")

CONTEXT = 128
END = 4095  # a token that no prompt or answer has: vLLM's sign to stop
PROFILE = EngineProfile(
    name="parity",
    source="made up for tests",
    step_time=StepTime(0.01, 1e-5, 1e-4),
    max_num_seqs=6,
    max_num_batched_tokens=48,
    max_model_len=CONTEXT,
    block_size=4,
    kv_blocks=CONTEXT // 4 + 1,
    kv_bytes_per_token=1.0,
    text_bytes_per_token=1.0,
    load_s=0.0,
)
PROFILES = {
    "tight": PROFILE,
    "threshold": replace(PROFILE, long_prefill_token_threshold=10, kv_blocks=60),
    "marked": replace(PROFILE, kv_blocks=60).with_forebay_scheduler(10),
    "marked and tight": PROFILE.with_forebay_scheduler(10),
    "marked and roomy": replace(PROFILE, kv_blocks=400).with_forebay_scheduler(48),
    "roomy": replace(PROFILE, kv_blocks=400),
    "uncached": replace(PROFILE, prefix_caching=False, kv_blocks=45),
}


class Theirs:
    """vLLM's scheduler, with a model that gives the answers that it is told to give."""

    def __init__(self, profile: EngineProfile) -> None:
        import torch
        from vllm.config import CacheConfig, ModelConfig, SchedulerConfig, VllmConfig
        from vllm.utils.hashing import sha256
        from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
        from vllm.v1.core.sched.scheduler import Scheduler
        from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
        from vllm.v1.structured_output import StructuredOutputManager

        from forebay.serving.engine.vllm_scheduler import ForebayScheduler

        init_none_hash(sha256)
        self.hasher = get_request_block_hasher(profile.block_size, sha256)
        config = VllmConfig(
            model_config=ModelConfig(
                model=str(resources.files("forebay") / "demo_model"),
                max_model_len=profile.max_model_len,
                dtype="bfloat16",
            ),
            cache_config=CacheConfig(block_size=32, enable_prefix_caching=profile.prefix_caching),
            scheduler_config=SchedulerConfig(
                max_model_len=profile.max_model_len,
                is_encoder_decoder=False,
                max_num_seqs=profile.max_num_seqs,
                max_num_batched_tokens=profile.max_num_batched_tokens,
                long_prefill_token_threshold=profile.long_prefill_token_threshold,
                policy="priority",
                async_scheduling=False,
            ),
        )
        config.cache_config.num_gpu_blocks = profile.kv_blocks
        spec = FullAttentionSpec(profile.block_size, num_kv_heads=1, head_size=1, dtype=torch.float)
        made = ForebayScheduler if profile.forebay_scheduler else Scheduler
        self.scheduler = made(
            vllm_config=config,
            kv_cache_config=KVCacheConfig(
                num_blocks=profile.kv_blocks,
                kv_cache_tensors=[],
                kv_cache_groups=[KVCacheGroupSpec(["layer"], spec)],
            ),
            structured_output_manager=StructuredOutputManager(config),
            block_size=profile.block_size,
            log_stats=False,
        )
        self.answers: dict[str, list[int]] = {}
        self.preemptions = 0

    def add(self, request: EngineRequest, now: float) -> None:
        from vllm import SamplingParams
        from vllm.v1.request import Request

        sampling = SamplingParams(
            max_tokens=request.max_tokens,
            stop_token_ids=[END],
            extra_args=SchedulingHints(
                request.in_parts,
                request.gives_way,
                request.step_tokens,
                request.until_answer,
                request.half_at,
            ).as_args(),
        )
        prompt = list(request.prompt)
        self.answers[request.request_id] = list(request.answer)
        self.scheduler.add_request(
            Request(
                request_id=request.request_id,
                prompt_token_ids=prompt,
                sampling_params=sampling,
                pooling_params=None,
                arrival_time=now,
                priority=request.priority,
                cache_salt=request.salt,
                block_hasher=self.hasher,
            )
        )

    def abort(self, name: str) -> None:
        from vllm.v1.request import RequestStatus

        self.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)

    def step(self) -> tuple[dict[str, int], dict[str, int], dict[str, str]]:
        """One step that computes something: tokens, cached tokens at first sight, finishes."""
        while True:
            plan = self.scheduler.schedule()
            preempted = plan.preempted_req_ids or set()
            self.preemptions += len(preempted)
            cached = {new.req_id: new.num_computed_tokens for new in plan.scheduled_new_reqs}
            finished = self._finish(plan)
            if plan.num_scheduled_tokens:
                return dict(plan.num_scheduled_tokens), cached, finished

    def _finish(self, plan: Any) -> dict[str, str]:
        from vllm.v1.outputs import ModelRunnerOutput

        names = list(plan.num_scheduled_tokens)
        sampled = [self._sample(self.scheduler.requests[name]) for name in names]
        output = ModelRunnerOutput(names, {n: i for i, n in enumerate(names)}, sampled)
        finished = {}
        for outputs in self.scheduler.update_from_output(plan, output).values():
            for one in outputs.outputs:
                if one.finish_reason is not None:
                    finished[one.request_id] = str(one.finish_reason)
        return finished

    def _sample(self, request: Any) -> list[int]:
        if request.num_computed_tokens < request.num_tokens:
            return []
        return [self.answers[request.request_id][request.num_output_tokens]]


def trace_request(rng: random.Random, name: str, earlier: list[EngineRequest]) -> EngineRequest:
    """A prompt asked before, a conversation continued, a shared beginning, or a fresh prompt."""
    kind = rng.random()
    length = rng.randint(1, 70)
    if earlier and kind < 0.1:
        prompt = list(rng.choice(earlier).prompt)
        prompt = prompt[: max(4, len(prompt) // 4 * 4)]  # whole blocks: a hit of all but the last
    elif earlier and kind < 0.4:
        before = rng.choice(earlier)
        prompt = [*before.prompt, *before.answer[: rng.randint(0, 30)], rng.randint(256, 4000)]
    elif kind < 0.7:
        prompt = [*range(300, 300 + length), rng.randint(256, 4000)]
    else:
        prompt = [rng.randint(256, 4000) for _ in range(length)]
    prompt = prompt[: CONTEXT - 1]
    max_tokens = rng.randint(1, min(60, CONTEXT - len(prompt)))
    stop_after = rng.randint(1, 80)
    answer = answer_tokens(prompt, max_tokens, range(256, 4000))
    if stop_after <= max_tokens:
        answer[stop_after - 1] = END
    return EngineRequest(
        request_id=name,
        prompt=prompt,
        max_tokens=max_tokens,
        stop_after=stop_after,
        priority=rng.randint(0, 3),
        salt=rng.choice([None, None, "salt"]),
        answer=answer,
        in_parts=len(prompt) > PROFILE.max_num_batched_tokens or rng.random() < 0.1,
        gives_way=rng.random() < 0.5,
        step_tokens=rng.choice([0, 3, 20]),
        until_answer=rng.random() < 0.3,
        half_at=rng.choice([0, 5, 50]),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_every_step_computes_what_vllm_would_compute(
    profile: EngineProfile, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forebay.serving.engine import vllm_scheduler as their_scheduler

    for module in (our_scheduler, their_scheduler):  # as short as the traces are
        monkeypatch.setattr(module, "MOST_ALONE", 3)
    rng, ours, theirs = random.Random(seed), EngineModel(profile), Theirs(profile)
    now, open_requests, earlier = 0.0, set[str](), list[EngineRequest]()
    cached: dict[str, int] = {}
    for turn in range(500):
        now += 1.0
        for _ in range(rng.choice([0, 0, 0, 1, 2]) if turn < 400 else 0):
            request = trace_request(rng, f"{len(earlier):04}", earlier)
            earlier.append(request)
            open_requests.add(request.request_id)
            ours.add(request, now)
            theirs.add(request, now)
        if open_requests and rng.random() < 0.05:
            name = rng.choice(sorted(open_requests))
            open_requests.discard(name)
            assert ours.abort(name)
            theirs.abort(name)
        if ours.start_step(now) is None:
            continue
        scheduled = ours.scheduled
        outputs = ours.finish_step()
        their_tokens, their_cached, their_finished = theirs.step()
        assert list(scheduled.items()) == list(their_tokens.items()), turn
        cached.update(their_cached)
        for output in outputs:
            if output.cached_tokens is not None:
                assert output.cached_tokens == cached[output.request_id], turn
        finished = {o.request_id: o.finish for o in outputs if o.finish}
        assert finished == their_finished, turn
        open_requests -= finished.keys()
        assert ours.preemptions == theirs.preemptions, turn
        pool = theirs.scheduler.kv_cache_manager.block_pool
        assert ours.free_blocks == pool.get_num_free_blocks(), turn
        assert (ours.running, ours.waiting) == theirs.scheduler.get_request_counts(), turn
        ours.check_integrity()
    assert len(earlier) > 100
    if profile.kv_blocks < 100:
        assert ours.preemptions > 0


def test_who_waited_for_its_grammar_goes_before_prompts_that_give_way() -> None:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams
    from vllm.v1.request import Request

    theirs = Theirs(PROFILES["marked and roomy"])
    batch = EngineRequest("batch", range(300, 400), 4, 5, answer=[1] * 4, priority=1)
    theirs.add(replace(batch, gives_way=True, step_tokens=3), 0.0)
    assert theirs.step()[0] == {"batch": 3}
    asked = SamplingParams(structured_outputs=StructuredOutputsParams(regex="a+"), max_tokens=4)
    request = Request(
        "form", list(range(20)), asked, None, arrival_time=1.0, block_hasher=theirs.hasher
    )
    theirs.scheduler.add_request(request)
    assert theirs.step()[0] == {"batch": 3}
    request.structured_output_request.grammar = object()
    assert theirs.scheduler.schedule().num_scheduled_tokens == {"form": 20}
