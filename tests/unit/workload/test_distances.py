"""Distances between samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload.distances import ks_distance, ks_noise, rank_correlation

samples = st.lists(st.integers(-20, 20), min_size=1, max_size=50).map(np.array)


@given(samples, samples)
def test_a_distance_is_symmetric_and_at_most_one(one: np.ndarray, other: np.ndarray) -> None:
    distance = ks_distance(one, other)
    assert 0.0 <= distance <= 1.0
    assert distance == ks_distance(other, one)
    assert ks_distance(one, one) == 0.0


@given(samples, samples)
def test_the_distance_is_the_largest_between_the_shares_below_any_value(
    one: np.ndarray, other: np.ndarray
) -> None:
    values = range(-21, 22)
    apart = max(abs(np.mean(one <= value) - np.mean(other <= value)) for value in values)
    assert ks_distance(one, other) == pytest.approx(apart)


def test_samples_of_one_law_stay_within_the_noise_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    far = [ks_distance(rng.random(300), rng.random(500)) > ks_noise(300, 500) for _ in range(400)]
    assert 0.02 < np.mean(far) < 0.09  # 5 %, from 400 trials


def test_nothing_has_no_distance() -> None:
    with pytest.raises(ValueError, match="two samples"):
        ks_distance(np.array([]), np.array([1]))


def test_ranks_see_any_rising_relation_and_share_ties() -> None:
    rising = np.arange(1.0, 50.0)
    assert rank_correlation(rising, np.exp(rising / 10)) == pytest.approx(1.0)
    assert rank_correlation(rising, -(rising**3)) == pytest.approx(-1.0)
    # By hand: ranks 1.5 1.5 3 against 1 2.5 2.5; both have variance 0.5, covariance 0.25.
    assert rank_correlation(np.array([1, 1, 2]), np.array([1, 2, 2])) == pytest.approx(0.5)
    assert rank_correlation(np.array([1, 1]), np.array([1, 2])) is None
