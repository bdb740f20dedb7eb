"""Prompts as named stretches of tokens, and pools of shared beginnings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import Fixed, PrefixPool, Segment, Uniform
from forebay.workload.prompts import shared_tokens, total_tokens

segments = st.lists(st.builds(Segment, st.sampled_from("abc"), st.integers(1, 5)), max_size=5).map(
    tuple
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("one", "other", "common"),
    [
        ([("a", 5), ("b", 7)], [("a", 5), ("b", 7), ("c", 1)], 12),
        ([("a", 5), ("b", 7)], [("a", 5), ("c", 7)], 5),
        ([("a", 5), ("b", 7)], [("b", 7)], 0),
        ([("a", 5)], [("a", 9)], 5),  # the shorter is the longer one's beginning
        ([("a", 5), ("b", 7)], [("a", 9), ("b", 7)], 5),  # but then they part
        ([], [("a", 5)], 0),
    ],
)
def test_prompts_share_what_they_begin_with(
    one: list[tuple[str, int]], other: list[tuple[str, int]], common: int
) -> None:
    mine, theirs = [Segment(*part) for part in one], [Segment(*part) for part in other]
    assert shared_tokens(mine, theirs) == shared_tokens(theirs, mine) == common


@given(segments, segments)
def test_no_two_prompts_share_more_than_the_shorter_holds(
    one: tuple[Segment, ...], other: tuple[Segment, ...]
) -> None:
    assert shared_tokens(one, one) == total_tokens(one)
    assert shared_tokens(one, other) <= min(total_tokens(one), total_tokens(other))


def test_the_prefixes_of_a_pool_are_shared_and_each_has_one_length() -> None:
    pool = PrefixPool("chat", 20, Uniform(100, 200))
    prefixes = pool.segments(rng(1))
    assert len({prefix.name for prefix in prefixes}) == 20
    assert all(prefix.shared and 100 <= prefix.tokens <= 200 for prefix in prefixes)
    assert prefixes == pool.segments(rng(1))


@pytest.mark.parametrize("zipf", [0.0, 0.8, 1.0, 2.0])
def test_popularity_falls_as_zipf_says(zipf: float) -> None:
    count = 50_000
    drawn = np.bincount(PrefixPool("p", 10, Fixed(1), zipf).draw(count, rng(2)), minlength=10)
    weights = np.arange(1, 11) ** -zipf
    expected = count * weights / weights.sum()
    assert (np.abs(drawn - expected) < 4 * np.sqrt(expected)).all()


@pytest.mark.parametrize(("count", "zipf"), [(0, 1.0), (-1, 1.0), (5, -0.1), (5, np.nan)])
def test_an_impossible_pool_is_refused(count: int, zipf: float) -> None:
    with pytest.raises(ValueError, match="a pool needs 1 prefix or more"):
        PrefixPool("p", count, Fixed(1), zipf)
