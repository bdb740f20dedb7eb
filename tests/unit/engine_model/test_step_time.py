"""Step times: the law, its fit to measured steps, the rooflines and the profiles by name."""

from __future__ import annotations

from dataclasses import astuple, replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.engine_model import PROFILES, StepTime, named_profile
from forebay.engine_model.law_fitting import (
    StepSample,
    fit_step_time,
    non_negative_least_squares,
)
from forebay.engine_model.profiles import H100, LLAMA_8B, LLAMA_70B
from forebay.engine_model.roofline import Efficiency, kv_blocks, roofline

LAW = StepTime(0.005, 2e-5, 1e-4, 5e-8, 1e-9)


def steps(law: StepTime, noise: float, count: int = 400) -> list[StepSample]:
    rng = np.random.default_rng(7)
    samples = []
    for _ in range(count):
        prefill = int(rng.integers(0, 2000)) if rng.random() < 0.5 else 0
        pairs, decode = prefill * int(rng.integers(1, 4000)), int(rng.integers(0, 64))
        context = decode * int(rng.integers(1, 2000))
        seconds = law.seconds(prefill, pairs, decode, context) * rng.lognormal(0, noise)
        samples.append(StepSample(float(seconds), prefill, decode, context, pairs))
    return samples


def test_a_fit_finds_the_law_that_made_the_steps() -> None:
    fit = fit_step_time(steps(LAW, noise=0.0))
    assert astuple(fit.step_time) == pytest.approx(astuple(LAW), rel=1e-6)
    assert fit.relative == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_fit_to_noisy_steps_says_how_far_off_it_is() -> None:
    fit = fit_step_time(steps(LAW, noise=0.1))
    assert astuple(fit.step_time) == pytest.approx(astuple(LAW), rel=0.15)
    assert fit.relative[0] == pytest.approx(-0.18, abs=0.05)
    assert fit.relative[2] == pytest.approx(0.15, abs=0.05)
    assert fit.samples == 400


def test_a_cost_that_is_not_there_is_nought_and_never_negative() -> None:
    fit = fit_step_time(steps(StepTime(0.005, 2e-5, 1e-4), noise=0.05))
    assert min(astuple(fit.step_time)) >= 0
    assert fit.step_time.context_token * 64_000 < 0.02 * 0.005 + 64 * 1e-4 * 0.05
    alike = [sample._replace(context_tokens=0, prefill_pairs=0) for sample in steps(LAW, 0.0)]
    assert fit_step_time(alike).step_time.context_token == 0


def test_a_negative_coefficient_is_dropped_and_the_rest_refitted() -> None:
    matrix = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    falling = np.array([3.0, 2.0, 1.0])
    assert non_negative_least_squares(matrix, falling) == pytest.approx([2.0, 0.0])
    assert non_negative_least_squares(matrix, falling[::-1]) == pytest.approx([1.0, 1.0])


@given(seed=st.integers(0, 10**6))
def test_no_choice_of_columns_fits_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Columns much alike, as durations and amounts are: some get in and must leave again.
    matrix = rng.random((6, 1)) + 0.3 * rng.normal(size=(6, 4))
    target = rng.random(6) + 0.3 * rng.normal(size=6)
    found = non_negative_least_squares(matrix, target)
    assert found.min() >= 0
    best = float(np.linalg.norm(target))
    for columns in (c for n in range(1, 5) for c in combinations(range(4), n)):
        alone = np.linalg.lstsq(matrix[:, columns], target, rcond=None)[0]
        if alone.min() >= 0:
            best = min(best, float(np.linalg.norm(target - matrix[:, columns] @ alone)))
    assert np.linalg.norm(target - matrix @ found) == pytest.approx(best, abs=1e-9)


def test_long_steps_do_not_drown_the_short_ones() -> None:
    short = [StepSample(LAW.seconds(0, 0, n, 0), 0, n, 0) for n in range(1, 60)]
    long = [StepSample(LAW.seconds(8000, 0, 0, 0) * m, 8000, 0, 0) for m in (0.8, 1.3, 1.5)]
    alone = [StepSample(LAW.seconds(n, 0, 2, 0) * 1.2, n, 2, 0) for n in (50, 500, 5000)]
    law = fit_step_time([*short, *long, *alone]).step_time
    assert law.base == pytest.approx(LAW.base, rel=0.02)
    assert law.decode_sequence == pytest.approx(LAW.decode_sequence, rel=0.02)


def test_a_fit_refuses_what_it_cannot_tell() -> None:
    with pytest.raises(ValueError, match="do not tell"):
        fit_step_time(steps(LAW, 0.0, count=3))
    with pytest.raises(ValueError, match="took no time"):
        fit_step_time([*steps(LAW, 0.0), StepSample(0.0, 1, 1, 1)])


def test_slowed_says_so_and_multiplies_every_time() -> None:
    profile = named_profile("h100-8b")
    slow = profile.slowed(4)
    assert slow.name == "h100-8b slowed x4"
    assert slow.source.endswith("All times x 4.")
    assert astuple(slow.step_time) == pytest.approx([4 * v for v in astuple(profile.step_time)])
    assert slow.load_s == 4 * profile.load_s
    assert slow.kv_blocks == profile.kv_blocks
    with pytest.raises(ValueError, match="slowed by 0"):
        profile.slowed(0)


def test_a_profile_that_vllm_would_not_start_is_refused() -> None:
    profile = named_profile("demo-cpu")
    with pytest.raises(ValueError, match="do not hold one request"):
        replace(profile, kv_blocks=64)
    replace(profile, kv_blocks=65)
    with pytest.raises(ValueError, match="less than max_num_seqs"):
        replace(profile, max_num_batched_tokens=63)
    with pytest.raises(ValueError, match="positive"):
        replace(profile, block_size=0)
    with pytest.raises(ValueError, match="step times"):
        StepTime(0.0, 1.0, 1.0)


def test_an_unknown_profile_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="demo-cpu, h100-8b, h100-70b"):
        named_profile("h100")


def test_the_shapes_have_the_weights_of_the_published_models() -> None:
    # Half of `total_size` (bytes, bf16) in the safetensors index of meta-llama/Llama-3.1-8B, -70B.
    assert LLAMA_8B.weights == 8_030_261_248
    assert LLAMA_70B.weights == 70_553_706_496
    assert LLAMA_8B.kv_bytes_per_token == 128 * 1024
    assert LLAMA_70B.kv_bytes_per_token == 320 * 1024


# profiles.py names the source: sequences decoding, their tokens in the cache about then, seconds.
MEASURED_8B = [(1, 600, 0.00705), (2, 720, 0.00717), (4, 770, 0.00723), (6, 880, 0.00739)]


@pytest.mark.parametrize(("sequences", "context", "seconds"), MEASURED_8B)
def test_the_8b_roofline_is_within_a_tenth_of_a_measured_h100(
    sequences: int, context: int, seconds: float
) -> None:
    predicted = named_profile("h100-8b").step_time.seconds(0, 0, sequences, context)
    assert predicted == pytest.approx(seconds, rel=0.1)


def test_four_workers_are_faster_than_one_and_slower_than_a_fourth() -> None:
    one, four = (roofline(LLAMA_70B, H100, Efficiency(), workers) for workers in (1, 4))
    assert one.base / 4 < four.base < one.base
    assert one.prefill_token / 4 < four.prefill_token < one.prefill_token
    assert four.context_token == pytest.approx(one.context_token / 4)


def test_memory_that_does_not_hold_the_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="leave -"):
        kv_blocks(LLAMA_70B, H100, 1, 16, 0.92, 0.0)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_every_profile_says_where_it_is_from(profile: object) -> None:
    assert "provisional" in repr(profile).lower() or "not measured" in repr(profile)
