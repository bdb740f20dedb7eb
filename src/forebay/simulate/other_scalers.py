"""Other people's scaling policies, restated from their published behaviour, to compare with."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import ceil, inf
from statistics import fmean
from typing import Literal

from forebay.simulate.scalers import Sight


@dataclass(frozen=True, slots=True)
class RayConfig:
    """Settings of Ray Serve 2.60's default policy, with its defaults but for the target.

    Attributes:
        target_ongoing: requests in flight per replica.
        look_back_s: over which requests in flight are averaged.
        up_factor, down_factor: share of a difference that is acted on.
        up_delay_s, down_delay_s: for which a difference must last.
    """

    target_ongoing: float
    look_back_s: float = 30.0
    up_factor: float = 1.0
    down_factor: float = 1.0
    up_delay_s: float = 30.0
    down_delay_s: float = 600.0


class RayDefault:
    """Ray Serve's default: requests in flight over a target, smoothed and delayed.

    After `ray/serve/autoscaling_policy.py` of 2.60: the mean in flight of the look-back period over
    the target per running replica says the factor by which to grow or shrink; the difference is
    scaled; a decision is taken once every look in a row for the delay wanted the same direction.
    """

    def __init__(self, config: RayConfig) -> None:
        self.config = config
        self._seen: deque[tuple[float, int]] = deque()
        self._direction = 0
        self._since = 0.0

    def target(self, sight: Sight) -> int:
        """Replicas that it asks for."""
        self._seen.append((sight.now, sight.ongoing))
        while self._seen[0][0] <= sight.now - self.config.look_back_s:
            self._seen.popleft()
        running = len(sight.ready)
        if not running:
            return sight.target
        ongoing = fmean(count for _, count in self._seen)
        desired = self._scaled(ongoing / self.config.target_ongoing, running)
        return self._delayed(max(desired, 1), sight)

    def _scaled(self, desired: float, running: int) -> int:
        difference = desired - running
        factor = self.config.up_factor if difference > 0 else self.config.down_factor
        scaled = ceil(running + factor * difference)
        if ceil(desired) < running and scaled == running:
            scaled -= 1  # a small factor would hold it up for ever
        return scaled

    def _delayed(self, desired: int, sight: Sight) -> int:
        direction = (desired > sight.target) - (desired < sight.target)
        if direction != self._direction:
            self._direction, self._since = direction, sight.now
        delay_s = self.config.up_delay_s if direction > 0 else self.config.down_delay_s
        if not direction or sight.now - self._since < delay_s:
            return sight.target
        self._direction = 0
        return desired


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """A KEDA ScaledObject on a queue length, with the figures of vLLM's and llm-d's guides.

    Attributes:
        counted: `waiting` counts vLLM's queue (`vllm:num_requests_waiting`), `ongoing` also what
            runs; `either` is two triggers, of which the larger counts: `per_replica` of those
            that wait, `running_per_replica` of those that run.
        per_replica: of these for each replica (`threshold`, AverageValue).
        running_per_replica: of the second trigger.
        poll_s: between two looks (`pollingInterval`, and the HPA's own).
        stable_s: `scaleDown.stabilizationWindowSeconds`.
        tolerance: the HPA's: a smaller difference is none.
    """

    per_replica: float
    counted: Literal["waiting", "ongoing", "either"] = "waiting"
    running_per_replica: float = inf
    poll_s: float = 15.0
    stable_s: float = 300.0
    tolerance: float = 0.1


class QueueLength:
    """A queue length over a target per replica, by the HPA's rules.

    Desired is the sum over the target, unless it is within the tolerance of what there is; growth
    of 100 % or 4 at once; shrinking to the most that was desired within the window.
    """

    def __init__(self, config: QueueConfig) -> None:
        self.config = config
        self._looked_at = -inf
        self._wanted: deque[tuple[float, int]] = deque()

    def target(self, sight: Sight) -> int:
        """Replicas that it asks for."""
        if sight.now - self._looked_at < self.config.poll_s:
            return sight.target
        self._looked_at = sight.now
        desired = self._desired(sight)
        self._wanted.append((sight.now, desired))
        while self._wanted[0][0] <= sight.now - self.config.stable_s:
            self._wanted.popleft()
        if desired > sight.target:
            return min(desired, max(2 * sight.target, sight.target + 4))
        return min(max(count for _, count in self._wanted), sight.target)

    def _desired(self, sight: Sight) -> int:
        config = self.config
        counts = {"waiting": sight.waiting, "ongoing": sight.ongoing, "either": sight.waiting}
        share = counts[config.counted] / config.per_replica
        if config.counted == "either":
            running = sight.ongoing - sight.waiting
            share = max(share, running / config.running_per_replica)
        if sight.target and abs(share / sight.target - 1.0) <= config.tolerance:
            return sight.target
        return ceil(share)
