"""Level, trend and what lasts of a noisy demand: requests of a tenth of a replica, by Poisson."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forebay.policies.scaling.demand_forecast import DemandHistory, Forecast

PER_REPLICA = 10.0  # requests/s that keep one busy


def seen(
    rate: Callable[[int], float], seconds: int, seed: int, half_life_s: float = 5.0
) -> list[Forecast]:
    """The forecast after each second."""
    rng = np.random.default_rng(seed)
    history, found = DemandHistory(half_life_s, 12 * half_life_s), []
    for second in range(1, seconds + 1):
        demand = float(rng.poisson(rate(second))) / PER_REPLICA
        history = history.add(demand, 1.0, float(second))
        found.append(history.forecast)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_a_step_is_no_trend_however_long_ago_it_was(seed: int) -> None:
    after = seen(lambda second: 30.0 if second <= 90 else 60.0, 180, seed)[90:]
    expected_too_much = [one.after(30.0) - one.level for one in after]
    assert max(expected_too_much) < 0.4  # replicas, of a step by three


@pytest.mark.parametrize("seed", range(8))
def test_of_a_ramp_most_is_counted_on_and_never_more_than_there_is(seed: int) -> None:
    last = seen(lambda second: 50.0 + 0.5 * second, 300, seed, half_life_s=20.0)[-1]
    assert 0.5 * 0.05 < last.slope < 1.1 * 0.05


@pytest.mark.parametrize("seed", range(8))
def test_a_peak_of_some_seconds_does_not_last(seed: int) -> None:
    settled = seen(lambda _: 30.0, 400, seed)[100:]
    lasting, level = max(one.lasting for one in settled), max(one.level for one in settled)
    assert lasting - 3.0 < 0.75 * (level - 3.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_fall_is_not_waited_for_by_the_slow_mean(seed: int) -> None:
    found = seen(lambda second: 60.0 if second <= 90 else 30.0, 130, seed)
    assert found[90 + 15].lasting < 4.5
