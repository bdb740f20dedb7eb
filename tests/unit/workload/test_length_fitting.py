"""Laws of lengths found again in what they drew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import Fixed, Histogram, Independent, Joint, Lognormal, Uniform
from forebay.workload.distances import ks_distance, rank_correlation
from forebay.workload.length_fitting import CLOSE, MOST_PAIRS, fit_lengths, fit_pairs
from forebay.workload.lengths import Ints


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_one_length_is_fixed() -> None:
    assert fit_lengths(np.full(40, 77), rng()) == Fixed(77)


def test_a_lognormal_is_found_again() -> None:
    law = fit_lengths(Lognormal(800, 4000, most=8000).draw(20_000, rng(1)), rng())
    assert isinstance(law, Lognormal)
    assert (law.p50, law.p99) == pytest.approx((800, 4000), rel=0.05)


TWO_HUMPS = [Uniform(10, 30).draw(500, rng(3)), Uniform(5000, 5100).draw(500, rng(4))]


@pytest.mark.parametrize(
    "values", [Uniform(100, 2000).draw(5000, rng(2)), np.concatenate(TWO_HUMPS)]
)
def test_what_is_no_lognormal_becomes_a_histogram(values: Ints) -> None:
    law = fit_lengths(values, rng())
    assert isinstance(law, Histogram)
    drawn = law.draw(20_000, rng(5))
    assert ks_distance(values, drawn) < CLOSE
    assert (drawn.min(), drawn.max()) == (values.min(), values.max())


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=300))
def test_whatever_was_recorded_has_a_law_that_draws_within_its_ends(lengths: list[int]) -> None:
    values = np.array(lengths, dtype=np.int64)
    for drawn in fit_pairs(values, values[::-1], rng()).draw(500, rng(1)):
        assert drawn.min() >= values.min()
        assert drawn.max() <= values.max()


def test_a_few_giants_far_above_all_others_have_no_law_and_stay_as_they_are() -> None:
    body, giants = Uniform(1, 100).draw(9950, rng(1)), Uniform(9000, 9999).draw(50, rng(2))
    values = np.concatenate([body, giants])
    assert fit_lengths(values, rng()) is None  # a bin between the two would invent the lengths
    law = fit_pairs(values, np.full(len(values), 5), rng())
    prompts, _ = law.draw(100_000, rng(3))
    assert prompts.mean() == pytest.approx(values.mean(), rel=0.25)
    assert not ((prompts > 100) & (prompts < 9000)).any()


def test_unrelated_lengths_are_drawn_by_themselves() -> None:
    prompts, outputs = (
        Lognormal(800, 4000).draw(3000, rng(1)),
        Lognormal(100, 500).draw(3000, rng(2)),
    )
    law = fit_pairs(prompts, outputs, rng())
    assert isinstance(law, Independent)
    assert isinstance(law.prompt, Lognormal)


def test_related_lengths_stay_pairs() -> None:
    prompts = Lognormal(800, 4000).draw(3000, rng(1))
    outputs = prompts // 10 + Uniform(1, 50).draw(3000, rng(2))
    law = fit_pairs(prompts, outputs, rng())
    assert isinstance(law, Joint)
    assert law.pairs == tuple(zip(prompts.tolist(), outputs.tolist(), strict=True))


def test_many_pairs_are_thinned_and_keep_their_law() -> None:
    prompts = Lognormal(800, 4000).draw(30_000, rng(1))
    outputs = prompts // 10 + 1
    law = fit_pairs(prompts, outputs, rng())
    assert isinstance(law, Joint)
    assert len(law.pairs) == MOST_PAIRS
    kept = np.array(law.pairs)
    assert ks_distance(kept[:, 0], prompts) < 0.03
    assert rank_correlation(kept[:, 0], kept[:, 1]) == pytest.approx(1.0, abs=0.001)


def test_the_seed_decides() -> None:
    prompts = Lognormal(800, 4000).draw(10_000, rng(1))
    one, again, other = (fit_pairs(prompts, prompts, rng(seed)) for seed in (1, 1, 2))
    assert one == again != other
