"""Times that a log rounded."""

from __future__ import annotations

import numpy as np
import pytest

from forebay.workload import Hold, Poisson, RateCurve, Row, spread_out
from forebay.workload.arrivals import arrivals
from forebay.workload.coarse_times import time_step
from forebay.workload.gap_fitting import fit_arrivals


def rows(times: list[float]) -> list[Row]:
    return [Row(at_s=at_s, prompt_tokens=1, output_tokens=1) for at_s in times]


def recorded(step: float) -> list[float]:
    exact = arrivals(RateCurve((Hold(20, 300),)), Poisson(), np.random.default_rng(0))
    times = np.floor(exact / step) * step if step else exact
    from_first: list[float] = (times - times[0]).tolist()
    return from_first


@pytest.mark.parametrize("step", [1.0, 3.0])
def test_whole_seconds_are_spread_and_read_as_what_they_were(step: float) -> None:
    spread, found = spread_out(rows(recorded(step)), np.random.default_rng(1))
    times = np.array([row.at_s for row in spread])
    assert found == step
    assert times[0] == 0.0
    assert (np.diff(times) >= 0).all()
    assert fit_arrivals(times, times[-1])[1] == Poisson()
    coarse = np.diff(recorded(step))
    assert coarse.std() / coarse.mean() > 3  # what they would have been taken for


def test_a_row_stays_with_its_own_lengths() -> None:
    coarse = [
        Row(at_s=float(k // 10), prompt_tokens=1 + k, output_tokens=2 + k) for k in range(100)
    ]
    spread, _ = spread_out(coarse, np.random.default_rng(0))
    assert {(row.prompt_tokens, row.output_tokens) for row in spread} == {
        (1 + k, 2 + k) for k in range(100)
    }
    assert all(abs(row.at_s - (row.prompt_tokens - 1) // 10) < 1.1 for row in spread)


@pytest.mark.parametrize(
    "times", [recorded(0.0), [0.0, 0.0, 0.0], [0.0], [0.0, 0.0, 1.0, 1.7, 1.7]]
)
def test_fine_times_are_left_alone(times: list[float]) -> None:
    before = rows(times)
    assert spread_out(before, np.random.default_rng(0)) == (before, 0.0)


def test_a_few_ties_among_fine_times_are_no_coarse_clock() -> None:
    assert time_step([0.0, 0.0, 1.0, 2.0, 3.0, 4.0]) == 0.0
