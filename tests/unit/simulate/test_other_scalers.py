"""Ray's default policy and a KEDA queue-length policy do what their documents say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forebay.simulate import QueueConfig, QueueLength, RayConfig, RayDefault, Scaler
from forebay.simulate.scalers import Sight


def follow(
    scaler: Scaler,
    seconds: int,
    ongoing: Callable[[int], int],
    *,
    target: int = 2,
    waiting: int = 0,
) -> list[int]:
    """Its targets, second by second, of a fleet that grows and shrinks at once."""
    targets = []
    for second in range(seconds):
        ready = [f"r{n}" for n in range(target)]
        target = scaler.target(
            Sight(float(second), ready, target, {}, ongoing(second), min(waiting, ongoing(second)))
        )
        targets.append(target)
    return targets


def test_ray_grows_to_its_target_after_the_delay() -> None:
    targets = follow(RayDefault(RayConfig(5.0)), 100, lambda _: 40)
    assert targets[29] == 2
    assert targets[30] == targets[-1] == 8


def test_ray_averages_what_it_saw() -> None:
    config = RayConfig(5.0, look_back_s=30.0, up_delay_s=0.0)
    targets = follow(RayDefault(config), 60, lambda second: 40 if second == 20 else 10)
    assert max(targets) == 3  # 10 or 11 on average; 40 for a moment ask for 8


def test_ray_shrinks_only_after_ten_minutes() -> None:
    targets = follow(RayDefault(RayConfig(5.0)), 700, lambda _: 5, target=4)
    assert targets[599] == 4
    assert targets[600] == 1


def test_ray_begins_to_wait_again_when_the_direction_turns() -> None:
    config = RayConfig(5.0, look_back_s=1.0)
    targets = follow(RayDefault(config), 100, lambda second: 10 if second % 20 == 0 else 40)
    assert set(targets) == {2}


def test_a_small_factor_does_not_hold_shrinking_up_for_ever() -> None:
    config = RayConfig(5.0, down_factor=0.1, down_delay_s=0.0)
    assert follow(RayDefault(config), 40, lambda _: 5, target=4)[-1] == 1


def test_the_queue_policy_doubles_or_adds_four_at_each_poll() -> None:
    scaler = QueueLength(QueueConfig(2.0))
    targets = follow(scaler, 31, lambda _: 200, target=3, waiting=100)
    assert (targets[0], targets[14], targets[15], targets[30]) == (7, 7, 14, 28)


def test_the_queue_policy_is_blind_to_what_runs() -> None:
    assert set(follow(QueueLength(QueueConfig(2.0)), 60, lambda _: 90, target=3)[:1]) == {0}
    either = QueueConfig(2.0, counted="either", running_per_replica=30.0)
    assert set(follow(QueueLength(either), 60, lambda _: 90, target=3)) == {3}


def test_the_queue_policy_shrinks_to_the_most_of_its_window() -> None:
    config = QueueConfig(10.0, counted="ongoing", stable_s=60.0)
    targets = follow(QueueLength(config), 120, lambda s: 40 if s < 30 else 20, target=4)
    assert targets[60] == 4
    assert targets[90] == 2


@pytest.mark.parametrize("ongoing", [37, 43])
def test_a_tenth_is_no_difference(ongoing: int) -> None:
    config = QueueConfig(10.0, counted="ongoing", stable_s=0.5)
    assert set(follow(QueueLength(config), 60, lambda _: ongoing, target=4)) == {4}
