from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from queue_runs import queue_run

from forebay.measure import sample_run
from forebay.measure.resampling import block_length, draw, resample
from forebay.measure.samples import Floats
from forebay.measure.statistic import Mean, Percentile, Rate, Statistic

EVERY: list[Statistic] = [
    Percentile("ttft", 50),
    Percentile("ttft", 99),
    Mean("failed"),
    Rate("good"),
]


def autoregressive(correlation: float, count: int, seed: int) -> Floats:
    noise = np.random.default_rng(seed).normal(size=count)
    series = np.zeros(count)
    for i in range(1, count):
        series[i] = correlation * series[i - 1] + noise[i]
    return series


@pytest.mark.parametrize("correlation", [0.3, 0.5, 0.8])
def test_block_lengths_are_those_of_the_theory(correlation: float) -> None:
    # For an AR(1) of correlation r the optimum has a closed form: (6 n r^2 / (1 - r^2)^2)^(1/3).
    count = 10_000
    optimum = (6 * count * correlation**2 / (1 - correlation**2) ** 2) ** (1 / 3)
    found = [block_length(autoregressive(correlation, count, seed)) for seed in range(9)]
    assert np.median(found) == pytest.approx(optimum, rel=0.25)


def test_blocks_are_short_where_nothing_is_correlated() -> None:
    found = [block_length(autoregressive(0.0, 10_000, seed)) for seed in range(9)]
    assert np.median(found) < 10


@given(st.lists(st.floats(-1e6, 1e6), max_size=50))
def test_a_block_length_leaves_blocks_to_draw(series: list[float]) -> None:
    assert 1.0 <= block_length(np.array(series)) <= max(1.0, len(series) / 3)


@given(st.integers(0, 100), st.integers(1, 80), st.integers(1, 30))
def test_each_request_is_drawn_as_often_as_its_blocks_hold_it(
    seed: int, count: int, blocks: int
) -> None:
    run = queue_run(seed, count)
    counts = draw(run, blocks, 5, np.random.default_rng(seed))
    assert counts.shape == (5, count)
    assert counts.min() >= 0
    assert counts.max() <= blocks
    if blocks == 1:  # the whole run, wherever it is cut open
        assert counts.tolist() == [[1] * count] * 5


def test_every_request_is_as_likely_as_another() -> None:
    counts = draw(queue_run(0, 50), 10, 4000, np.random.default_rng(0))
    assert counts.mean(axis=0) == pytest.approx(1.0, abs=0.08)  # 5 standard errors


def test_the_number_of_requests_varies_as_arrivals_do() -> None:
    sizes = draw(queue_run(0, 400), 40, 2000, np.random.default_rng(0)).sum(axis=1)
    assert sizes.mean() == pytest.approx(400, rel=0.02)
    assert 0.5 < sizes.std() / np.sqrt(400) < 2  # Poisson arrivals: about 1


def test_a_run_of_nothing_has_no_latency_and_no_goodput() -> None:
    found = resample(sample_run([], 10.0, 1.0), EVERY, np.random.default_rng(0), 20)
    ttft_p50, ttft_p99, failed, goodput = (one.values for one in found)
    assert np.isnan([ttft_p50, ttft_p99, failed]).all()
    assert goodput.tolist() == [0.0] * 20


@pytest.mark.parametrize(("count", "bounded"), [(367, False), (368, True)])
def test_few_requests_do_not_bound_a_p99(count: int, bounded: bool) -> None:
    run = queue_run(0, count)
    median, p99, *_ = resample(run, EVERY, np.random.default_rng(0), 20)
    assert median.bounded is True
    assert p99.bounded is bounded
