"""Laws of lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.workload import Fixed, Histogram, Independent, Joint, Lengths, Lognormal, Uniform
from forebay.workload.lengths import shares


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("law", "least", "most"),
    [
        (Fixed(7), 7, 7),
        (Uniform(3, 9), 3, 9),
        (Lognormal(100, 1000, least=20, most=500), 20, 500),
        (Histogram((1, 5, 9), (1, 3)), 1, 8),
    ],
)
def test_lengths_stay_within_their_ends_and_reach_them(law: Lengths, least: int, most: int) -> None:
    drawn = law.draw(20_000, rng())
    assert (drawn.min(), drawn.max()) == (least, most)


def test_a_lognormal_has_the_quantiles_it_was_given() -> None:
    drawn = Lognormal(1020, 4142).draw(200_000, rng())
    assert np.percentile(drawn, 50) == pytest.approx(1020, rel=0.02)
    assert np.percentile(drawn, 99) == pytest.approx(4142, rel=0.03)


def test_a_histogram_has_the_weights_it_was_given() -> None:
    drawn = Histogram((1, 101, 201), (1, 3)).draw(50_000, rng())
    assert np.mean(drawn > 100) == pytest.approx(0.75, abs=0.01)


def test_joint_lengths_come_in_the_pairs_that_were_seen() -> None:
    pairs = ((10, 1), (1000, 50), (7, 300))
    prompts, outputs = Joint(pairs).draw(1000, rng())
    assert set(zip(prompts.tolist(), outputs.tolist(), strict=True)) == set(pairs)


def test_independent_lengths_mix_freely() -> None:
    prompts, outputs = Independent(Uniform(1, 2), Uniform(1, 2)).draw(1000, rng())
    assert len(set(zip(prompts.tolist(), outputs.tolist(), strict=True))) == 4


@given(st.lists(st.floats(0, 1e6), min_size=1).filter(lambda w: sum(w) > 0))
def test_shares_add_up(weights: list[float]) -> None:
    assert shares(weights).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(0),
        lambda: Uniform(5, 4),
        lambda: Lognormal(10, 5),
        lambda: Histogram((1, 2), (0.0,)),
        lambda: Histogram((1, 2, 3), (1.0,)),
        lambda: Histogram((2, 2), (1.0,)),
        lambda: Joint(()),
        lambda: shares([]),
        lambda: shares([-1.0, 2.0]),
    ],
)
def test_impossible_lengths_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=r"\w"):
        make()
