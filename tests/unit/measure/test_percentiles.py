from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.measure import adjusted_percentile, percentile
from forebay.measure.percentiles import percentiles

values = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)
ranks = st.sampled_from([0, 1, 5, 25, 50, 75, 90, 95, 99, 100])


@given(values, ranks)
def test_agrees_with_numpy(sample: list[float], q: float) -> None:
    assert percentile(sample, q) == np.percentile(sample, q, method="inverted_cdf")


@given(values, ranks)
def test_is_a_value_that_occurred(sample: list[float], q: float) -> None:
    assert percentile(sample, q) in sample


@given(values, st.integers(0, 50), ranks)
def test_failures_never_improve_a_percentile(sample: list[float], failures: int, q: float) -> None:
    exact, adjusted = percentile(sample, q), adjusted_percentile(sample, failures, q)
    assert exact is not None
    assert adjusted is not None
    assert adjusted >= exact


def test_one_failure_in_a_hundred_shows_beyond_p99() -> None:
    assert adjusted_percentile([1.0] * 99, 1, 99) == 1.0
    assert adjusted_percentile([1.0] * 98, 2, 99) == math.inf


def test_rounding_does_not_raise_the_rank() -> None:
    assert percentile(range(1, 101), 55) == 55  # 0.55 * 100 is 55.00000000000001


def test_of_nothing_is_none() -> None:
    assert percentiles([], (50, 99)) == [None, None]


@pytest.mark.parametrize("sample", [[], [1.0]])
@pytest.mark.parametrize("q", [-1, 100.5, math.nan])
def test_an_impossible_rank_is_refused(sample: list[float], q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile(sample, q)


def test_negative_failures_are_refused() -> None:
    with pytest.raises(ValueError, match="failures"):
        adjusted_percentile([1.0], -1, 50)
