"""Gaps between tokens, and percentiles of values that count more than once."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import sample

from forebay.measure import percentile, token_gaps
from forebay.measure.itl import weighted_percentiles


def test_an_event_a_token_gives_the_gaps_as_they_were() -> None:
    gaps, weights = token_gaps([sample(tokens_out=3, token_times=array("d", [1.0, 1.5, 3.0]))])
    assert (gaps.tolist(), weights.tolist()) == ([0.5, 1.5], [1.0, 1.0])


def test_a_chunk_of_k_tokens_counts_k_gaps() -> None:
    gaps, weights = token_gaps([sample(tokens_out=7, token_times=[0.0, 3.0, 6.0])])
    assert gaps.tolist() == [1.0, 1.0]
    assert weights.tolist() == [3.0, 3.0]


def test_fewer_tokens_than_events_still_count_each_gap_once() -> None:
    gaps, weights = token_gaps([sample(tokens_out=2, token_times=[0.0, 1.0, 3.0])])
    assert (gaps.tolist(), weights.tolist()) == ([1.0, 2.0], [1.0, 1.0])


@pytest.mark.parametrize("times", [None, [], [1.0]])
def test_what_has_no_gap_gives_none(times: list[float] | None) -> None:
    gaps, weights = token_gaps([sample(token_times=times)])
    assert (len(gaps), len(weights)) == (0, 0)


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(0, 100), min_size=2, max_size=9).map(sorted), st.integers(0, 9)
        ),
        max_size=5,
    )
)
def test_gaps_weigh_as_many_as_there_are_and_add_up_to_the_time(
    streams: list[tuple[list[float], int]],
) -> None:
    records = [sample(tokens_out=len(times) + more, token_times=times) for times, more in streams]
    gaps, weights = token_gaps(records)
    assert weights.sum() == pytest.approx(sum(record.tokens_out - 1 for record in records))
    assert (gaps * weights).sum() == pytest.approx(sum(t[-1] - t[0] for t, _ in streams), abs=1e-9)


values = st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 5)), min_size=1, max_size=50)


@given(values, st.sampled_from([0, 1, 25, 50, 95, 99, 100]))
def test_a_weighted_percentile_is_that_of_the_values_repeated(
    pairs: list[tuple[float, int]], q: float
) -> None:
    numbers, weights = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    repeated = [value for value, times in pairs for _ in range(times)]
    assert weighted_percentiles(numbers, weights, [q]) == [percentile(repeated, q)]


def test_of_nothing_there_is_no_percentile() -> None:
    assert weighted_percentiles(np.empty(0), np.empty(0), [50]) == [None]
