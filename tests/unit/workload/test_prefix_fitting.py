"""Shared beginnings found again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import Fixed, Histogram, Lognormal, Row
from forebay.workload.prefix_fitting import shared_prefixes, zipf_exponent


def row(*blocks: str, prompt: int = 1000, size: int = 100) -> Row:
    return Row(at_s=0.0, prompt_tokens=prompt, output_tokens=1, blocks=blocks, block_tokens=size)


def test_what_the_greater_part_begins_with_is_the_prefix() -> None:
    rows = [row("a", "b", "x"), row("a", "b", "y"), row("a", "b", "z"), row("a", "c")]
    found = shared_prefixes(rows)
    assert found.counts == (4,)
    assert found.tokens.tolist() == [200, 200, 200, 200]


def test_a_beginning_seen_once_is_nobody_elses() -> None:
    found = shared_prefixes([row("a"), row("b"), row("b"), row()])
    assert found.counts == (2,)
    assert found.tokens.tolist() == [0, 100, 100, 0]


def test_prefixes_are_ordered_by_their_requests() -> None:
    rows = [row("a")] * 2 + [row("b", "c")] * 5 + [row("d")] * 3
    assert shared_prefixes(rows).counts == (5, 3, 2)


def test_few_prefixes_have_their_mean_length_by_requests_and_many_a_law() -> None:
    rng = np.random.default_rng(0)
    few = shared_prefixes([row("a", "b", "c")] * 6 + [row("d")] * 2)
    assert few.lengths(rng) == Fixed(250)
    many = [row(*(f"{k}-{i}" for i in range(1 + k % 9))) for k in range(90) for _ in range(2)]
    law = shared_prefixes(many).lengths(rng)
    assert isinstance(law, Histogram | Lognormal)
    assert law.draw(2000, rng).mean() == pytest.approx(500, rel=0.1)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_is_found_again(exponent: float) -> None:
    rng = np.random.default_rng(7)
    weights = np.arange(1, 41.0) ** -exponent
    drawn = rng.choice(40, 20_000, p=weights / weights.sum())
    counts = sorted(np.bincount(drawn)[np.bincount(drawn) > 0].tolist(), reverse=True)
    assert zipf_exponent(counts) == pytest.approx(exponent, abs=0.08)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=60))
def test_any_counts_have_an_exponent(counts: list[int]) -> None:
    assert 0.0 <= zipf_exponent(sorted(counts, reverse=True)) <= 5.0
