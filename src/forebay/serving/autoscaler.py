"""Ray Serve's autoscaling policy of a service, run by Serve's controller.

Replicas report what they were offered (`record_autoscaling_stats`); once a second their last
reports go to `policies/autoscaling.py`. What it decides and why goes to a named actor, so that
neither a restarted controller nor a replica that leaves takes the record with it.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from forebay.policies.autoscaling import Autoscaler, ScalingRecord
from forebay.policies.demand_meter import ReplicaReading
from forebay.policies.scaling import ScalingConfig
from forebay.policies.scaling_limits import LimitConfig
from forebay.policies.schedules import floors
from forebay.serving.replica import PREFIX
from forebay.serving.scaling_log import scaling_log
from forebay.spec.schedule import FloorSpec
from forebay.spec.service import ServiceSpec

_LOG = logging.getLogger("ray.serve")  # goes to the controller's log
_TICK_S = 1.0
_QUIET_TICKS = 10  # a decision that changes nothing is kept once in so many


# Serve wraps every policy in limits of its own, which know nothing of ours: growth is believed only
# when each of the calls of 30 s, ten a second, has asked for it, and ours decides once a second. A
# policy that has its own limits is passed on at once and in full.
_SERVES_LIMITS_OFF = {
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 0.0,
    "downscale_to_zero_delay_s": 0.0,
    "upscaling_factor": 1.0,
    "downscaling_factor": 1.0,
}


def autoscaling_config(spec: ServiceSpec) -> dict[str, Any]:
    """Serve's `autoscaling_config` for a spec with room between `min` and `max`."""
    from ray.serve.config import AutoscalingPolicy

    scaling = spec.scaling
    settings = {
        "service": spec.name,
        "min": scaling.min,
        "max": scaling.max,
        "headroom": scaling.headroom,
        "stable_s": scaling.stable,
        "cold_start_s": scaling.cold_start,
        "tolerated_s": spec.ttft_budget("interactive") / 2,
        "schedule": [floor.model_dump(mode="json", by_alias=True) for floor in scaling.schedule],
    }
    return {
        "min_replicas": scaling.min,
        "max_replicas": scaling.max,
        "initial_replicas": scaling.min,
        **_SERVES_LIMITS_OFF,
        "metrics_interval_s": _TICK_S,
        "look_back_period_s": 5 * _TICK_S,
        "policy": AutoscalingPolicy(
            policy_function="forebay.serving.autoscaler:ForebayScaling",
            policy_kwargs={"settings": settings},
        ),
    }


class ForebayScaling:
    """What Serve's controller calls, ten times a second, for the replicas to have."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._service = settings["service"]
        self._autoscaler = Autoscaler(
            ScalingConfig(headroom=settings["headroom"], tolerated_s=settings["tolerated_s"]),
            LimitConfig(settings["min"], settings["max"], stable_s=settings["stable_s"]),
            cold_start_s=settings["cold_start_s"],
        )
        self._schedule = [read_floor(floor).entry() for floor in settings["schedule"]]
        self._by_hand: tuple[int, float] | None = None
        self._asked: Any = None  # the answer that brings the floor set by hand
        self._log: Any = None
        self._ticked_at = float("-inf")
        self._quiet = 0

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The target, and no state: it lives here."""
        now = time.monotonic()
        target = context.target_num_replicas
        if now - self._ticked_at < _TICK_S:
            return target, {}
        self._ticked_at = now
        ready = [replica.unique_id for replica in context.running_replicas]
        record = self._autoscaler.decide(
            readings(context.raw_metrics), ready, target, now, self._floors()
        )
        self._keep(record)
        return record.target, {}

    def _floors(self) -> list[int]:
        """Those of the schedule, and the one set by hand while it has not expired."""
        wall = time.time()
        self._by_hand = self._fetched()
        by_hand = [self._by_hand[0]] if self._by_hand and wall < self._by_hand[1] else []
        lead_s = self._autoscaler.meter.cold_start.cautious_s
        return [*floors(self._schedule, wall, lead_s), *by_hand]

    def _fetched(self) -> tuple[int, float] | None:
        """What the log said last of the floor set by hand. The controller never waits for it."""
        import ray

        try:
            if self._log is None:
                self._log = scaling_log(self._service)
            if self._asked is None:
                self._asked = self._log.floor.remote()
            if not ray.wait([self._asked], timeout=0)[0]:
                return self._by_hand
            answer: tuple[int, float] | None = ray.get(self._asked)
            self._asked = None
        except Exception as error:
            self._lost(error)
            return self._by_hand
        return answer

    def _keep(self, record: ScalingRecord) -> None:
        self._quiet += 1
        if record.target == record.before and self._quiet < _QUIET_TICKS:
            return
        self._quiet = 0
        if record.target != record.before:
            _LOG.info("replicas %d -> %d: %s", record.before, record.target, record.reason)
        try:
            if self._log is None:
                self._log = scaling_log(self._service)
            self._log.add.remote({**record.plain(), "at": time.time()})
        except Exception as error:  # the record is lost, the decision is not
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        self._log = self._asked = None
        _LOG.warning("the scaling log does not answer (%s)", error)


def read_floor(values: dict[str, Any]) -> FloorSpec:
    """An entry of the schedule from what `autoscaling_config` wrote of it."""
    return FloorSpec.model_validate(values)


def readings(raw_metrics: Any) -> dict[str, ReplicaReading]:
    """Each replica's last report, of those that report all of it."""
    by_name = {name: raw_metrics.get(PREFIX + name, {}) for name in ReplicaReading.names()}
    found = {}
    for replica in by_name["sequence"]:
        series = [by_name[name].get(replica) for name in ReplicaReading.names()]
        if all(series):
            last = (points[-1].value for points in series)
            found[replica.unique_id] = ReplicaReading(*last)
    return found
