from __future__ import annotations

import math

import numpy as np
import pytest
from queue_runs import LOAD, RATE, queue_run

from forebay.measure import Interval, run_intervals
from forebay.measure.intervals import (
    EVERYTHING,
    interval_of_difference,
    interval_of_mean,
    interval_of_replicated_difference,
    interval_of_replicates,
    student_t,
)
from forebay.measure.resampling import Replicates
from forebay.measure.statistic import Percentile, Rate

INF = math.inf


@pytest.mark.parametrize(
    ("p", "freedom", "table"),
    [
        (0.975, 1, 12.706),
        (0.975, 2, 4.303),
        (0.975, 4, 2.776),
        (0.975, 8, 2.306),
        (0.975, 30, 2.042),
        (0.975, 1e9, 1.960),
        (0.95, 4, 2.132),
        (0.5, 4, 0.0),
    ],
)
def test_students_t_is_that_of_the_tables(p: float, freedom: float, table: float) -> None:
    assert student_t(p, freedom) == pytest.approx(table, abs=6e-4)


def test_a_mean_of_five() -> None:
    found = interval_of_mean(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    half = 2.776 * math.sqrt(2.5 / 5)
    assert (found.low, found.high) == pytest.approx((3 - half, 3 + half), abs=1e-3)


def test_five_against_five() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([11.0, 12.0, 13.0, 14.0, 15.0])
    found = interval_of_difference(a, b)
    half = 2.306 * math.sqrt(2 * 2.5 / 5)  # equal variances: Welch's freedom is 8
    assert (found.low, found.high) == pytest.approx((10 - half, 10 + half), abs=1e-3)


def test_the_noisier_side_has_the_freedom() -> None:
    still, noisy = np.array([1.0, 1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])
    found = interval_of_difference(still, noisy)
    half = 4.303 * math.sqrt(1 / 3)  # freedom 2: all of the noise comes from three runs
    assert (found.low, found.high) == pytest.approx((1 - half, 1 + half), abs=1e-3)


def test_one_run_against_several_varies_as_they_do() -> None:
    found = interval_of_difference(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([13.0]))
    half = 2.776 * math.sqrt(2.5 * (1 + 1 / 5))
    assert (found.low, found.high) == pytest.approx((10 - half, 10 + half), abs=1e-3)


def test_no_spread_leaves_no_width() -> None:
    same = np.array([2.0, 2.0, 2.0])
    assert interval_of_difference(same, same) == Interval(0.0, 0.0)
    assert interval_of_mean(same) == Interval(2.0, 2.0)


def test_one_value_says_nothing_of_its_spread() -> None:
    assert interval_of_mean(np.array([1.0])) == EVERYTHING


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3, 4], [INF, INF, INF, INF], Interval(INF, INF)),
        ([1, 2, 3, 4], [5, 6, 7, INF], Interval(1, INF)),
        ([5, 6, 7, INF], [1, 2, 3, 4], Interval(-INF, -1)),
        ([1, 2, 3, 4], [3.5, 6, 7, INF], Interval(-0.5, INF)),
        ([INF] * 4, [INF] * 4, EVERYTHING),
        ([1, 2, 3], [INF, INF, INF], EVERYTHING),  # 2 of 20 ways to deal three and three: chance
    ],
)
def test_infinite_values_are_compared_by_their_order(
    a: list[float], b: list[float], expected: Interval
) -> None:
    assert interval_of_difference(np.array(a, float), np.array(b, float)) == expected


def test_infinite_differences_of_pairs_need_six_that_agree() -> None:
    assert interval_of_mean(np.array([1.0, 2, 3, 4, INF])) == EVERYTHING
    assert interval_of_mean(np.array([1.0, 2, 3, 4, 5, INF])) == Interval(1, INF)
    assert interval_of_mean(np.array([1.0, 2, 3, 4, 5, math.nan])) == EVERYTHING


@pytest.mark.parametrize(
    "runs", [3, pytest.param(5, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)]
)
def test_intervals_over_runs_hold_the_truth_as_often_as_they_say(runs: int) -> None:
    rng = np.random.default_rng(0)
    found = [interval_of_difference(*rng.lognormal(0, 0.2, (2, runs))) for _ in range(2000)]
    holds = np.mean([one.low <= 0 <= one.high for one in found])
    assert 0.94 <= holds <= 0.985


def test_intervals_within_a_run_allow_for_the_queue() -> None:
    # TTFT of an M/M/1 queue is exponential at the rate (1 - load) x service rate.
    truth = math.log(2) / ((1 - LOAD) * RATE / LOAD)
    statistic = [Percentile("ttft", 50)]
    held, naive = 0, 0
    for seed in range(100):
        run = queue_run(seed, 2000)
        rng = np.random.default_rng(seed)
        (found,) = run_intervals(run, statistic, rng, 200)
        held += found.low <= truth <= found.high
        one_by_one = rng.choice(run.series["ttft"].values, (200, 2000))
        low, high = np.percentile(np.median(one_by_one, axis=1), (2.5, 97.5))
        naive += bool(low <= truth <= high)
    assert held >= 85
    assert naive <= 50  # what drawing requests one by one would have promised as 95


def test_a_rate_allows_for_the_arrivals() -> None:
    (found,) = run_intervals(queue_run(3, 2000), [Rate("tokens")], np.random.default_rng(0), 500)
    assert found.low < 11 * RATE < found.high
    assert (found.high - found.low) / 2 / (11 * RATE) == pytest.approx(
        1.96 / math.sqrt(2000), rel=0.4
    )


def test_a_p99_of_few_requests_has_no_upper_end() -> None:
    few, many = (
        run_intervals(queue_run(0, count), [Percentile("ttft", 99)], np.random.default_rng(0), 100)
        for count in (200, 2000)
    )
    assert few[0].high == INF
    assert 0 < few[0].low < INF
    assert many[0].high < INF


def replicates(*values: float, blocks: int = 1000, bounded: bool = True) -> Replicates:
    return Replicates(np.array(values), blocks, bounded)


def test_few_blocks_widen_an_interval() -> None:
    values = np.arange(1000.0)
    wide, narrow = (interval_of_replicates(replicates(*values, blocks=b)) for b in (7, 1000))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert (narrow.low, narrow.high) == pytest.approx((25, 974), abs=1)


def test_one_block_says_nothing() -> None:
    assert interval_of_replicates(replicates(1.0, 2.0, blocks=1)) == EVERYTHING
    one, two = replicates(1.0, blocks=1), replicates(2.0)
    assert interval_of_replicated_difference(one, two) == EVERYTHING


def test_infinite_resamples_stay_at_the_ends() -> None:
    finite, endless = replicates(*range(100)), replicates(*([INF] * 100))
    mixed = replicates(*range(200, 290), *([INF] * 10))
    assert interval_of_replicated_difference(finite, endless) == Interval(INF, INF)
    assert interval_of_replicated_difference(endless, finite) == Interval(-INF, -INF)
    assert interval_of_replicated_difference(endless, endless) == EVERYTHING
    over = interval_of_replicated_difference(finite, mixed)
    assert over.low > 100
    assert over.high == INF
