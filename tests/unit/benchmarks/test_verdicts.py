import math
from collections.abc import Sequence

import pytest

from verdicts import compared


def verdict(
    before: Sequence[float],
    after: Sequence[float],
    *,
    at_least: float = 0.05,
    more_is_better: bool = True,
) -> str:
    return compared(before, after, at_least=at_least, more_is_better=more_is_better).verdict


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([100, 100], [100, 100], "same"),
        ([100, 101], [94, 95], "worse"),
        ([100, 101], [106, 107], "better"),
        ([100, 102], [96, 98], "same"),  # within the share that is always noise
        ([100, 106], [91, 91], "same"),  # the earlier state's repeats are as far apart
        ([100, 100], [85, 97], "same"),  # the later one's
        ([100, 106], [89, 90], "worse"),
        ([100], [94], "worse"),
    ],
)
def test_a_difference_counts_where_it_is_beyond_twice_the_spread_of_repeats(
    before: list[float], after: list[float], expected: str
) -> None:
    assert verdict(before, after) == expected
    opposite = {"better": "worse", "worse": "better"}.get(expected, expected)
    assert verdict(before, after, more_is_better=False) == opposite


def test_a_count_that_was_always_zero_has_no_noise() -> None:
    assert verdict([0, 0], [0, 0], at_least=0.0, more_is_better=False) == "same"
    assert verdict([0, 0], [1, 1], at_least=0.0, more_is_better=False) == "worse"
    assert verdict([0, 0], [0, 1], at_least=0.0, more_is_better=False) == "same"


def test_what_never_came_is_worse_than_any_time() -> None:
    assert verdict([1, 1], [math.inf, math.inf], more_is_better=False) == "worse"
    assert verdict([math.inf, math.inf], [1, 1], more_is_better=False) == "better"
    assert verdict([math.inf, math.inf], [math.inf, math.inf], more_is_better=False) == "same"
    assert verdict([1, math.inf], [math.inf, math.inf], more_is_better=False) == "same"


def test_the_change_and_the_noise_are_shares_of_the_earlier_mean() -> None:
    found = compared([90, 110], [140, 140], at_least=0.05, more_is_better=True)
    assert found.change == pytest.approx(0.4)
    assert found.noise == pytest.approx(0.4)
    assert found.verdict == "same"
    assert compared([0, 0], [1, 1], at_least=0.05, more_is_better=True).change is None
