"""Ray Serve's autoscaling policy of a service, run by Serve's controller.

Replicas report what they were offered (`record_autoscaling_stats`); once a second their last
reports go to `policies/scaling/autoscaler.py`. What it decides and why goes to a named actor, so
that neither a restarted controller nor a replica that leaves takes the record with it.

The controller is one process for the whole cluster, and imports what is imported here: nothing of
the service's file (`scaling_settings.py` reads that), and no replica.
"""

from __future__ import annotations

import logging
import pickle
import time
from typing import Any
from zoneinfo import ZoneInfo

from forebay.observability.alarms import NewAlarms
from forebay.policies.scaling import (
    EARLY_S,
    Autoscaler,
    Capacity,
    FloorWindow,
    LimitConfig,
    Recurrence,
    ReplicaReading,
    ScalingConfig,
    ScalingRecord,
    floors,
)
from forebay.serving.names import READING_PREFIX, SCALING_PERIOD_S
from forebay.serving.scaling.scaling_gauges import ScalingGauges
from forebay.serving.scaling.scaling_link import ScalingLink
from forebay.serving.scaling.scaling_log import Sizes

_LOG = logging.getLogger("ray.serve")  # goes to the controller's log
_QUIET_TICKS = 10  # a decision that changes nothing is kept once in so many
_PATIENCE_S = 15.0  # for what an earlier policy knew


class SteadyClock:
    """Seconds since 1970 that never go back, also from one process to the next.

    What is remembered carries times; a clock that is stepped must not make them the future.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        """The time."""
        return time.monotonic() + self._offset

    def not_before(self, earlier: float) -> None:
        """Go on from `earlier` at least."""
        self._offset += max(earlier - self(), 0.0)


class ForebayScaling:
    """What Serve's controller calls, some times a second, for the replicas to have."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._autoscaler = self._knowing_nothing()
        self._schedule = [read_floor(floor) for floor in settings["schedule"]]
        self._link = ScalingLink(settings["service"])
        self._gauges = ScalingGauges(settings["service"])
        self._alarms = NewAlarms()
        self._clock = SteadyClock()
        self._began = self._clock()
        self._resumed = False
        self._unproven = False  # what was resumed has led to no decision yet
        self._ticked_at = float("-inf")
        self._quiet = 0

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """The target, and no state: it lives here, and its copy in the log."""
        target: int = context.target_num_replicas
        now = self._clock()
        if now - self._ticked_at < SCALING_PERIOD_S:
            return target, {}
        self._ticked_at = now
        try:
            self._link.look()
            if not self._is_ready(now):
                return target, {}
            decided = self._decided(context, target).target
            self._unproven = False
            return decided, {}
        except Exception:  # a fault of ours must not become a fleet of another size
            _LOG.exception("no scaling decision; %d replicas are kept", target)
            if self._unproven:  # another version's memory may read well and still lack something
                _LOG.warning("what was known of the demand is given up")
                self._autoscaler, self._unproven = self._knowing_nothing(), False
            return target, {}

    def _knowing_nothing(self) -> Autoscaler:
        settings = self._settings
        rates = settings["capacity"]
        return Autoscaler(
            ScalingConfig(headroom=settings["headroom"], tolerated_s=settings["tolerated_s"]),
            LimitConfig(settings["min"], settings["max"], stable_s=settings["stable_s"]),
            declared=None if rates is None else Capacity.declared(*rates),
            cold_start_s=settings["cold_start_s"],
        )

    def _is_ready(self, now: float) -> bool:
        """Whether what an earlier policy knew has come; the fleet is held while it may yet."""
        if self._resumed:
            return True
        if not self._link.answered and now - self._began < _PATIENCE_S:
            return False
        self._resumed = True
        if self._link.orders.memory is not None:
            self._resume(self._link.orders.memory)
        return True

    def _resume(self, memory: bytes) -> None:
        try:
            at, known = pickle.loads(memory)
            self._clock.not_before(at)
            self._autoscaler.resume(known)
            self._unproven = True
        except Exception as error:  # written by another version
            _LOG.warning("what was known of the demand cannot be read (%s)", error)

    def _decided(self, context: Any, target: int) -> ScalingRecord:
        ready = [replica.unique_id for replica in context.running_replicas]
        record = self._autoscaler.decide(
            readings(context.raw_metrics),
            ready,
            target,
            self._clock(),
            self._floors(),
            woken=self._is_woken(),
        )
        self._keep(record)
        return record

    def _floors(self) -> list[int]:
        """Those of the schedule, and the one set by hand while it has not expired."""
        wall, by_hand = time.time(), self._link.orders.floor
        lead_s = self._autoscaler.meter.cold_start.most_s + EARLY_S
        return [
            *floors(self._schedule, wall, lead_s),
            *([by_hand[0]] if by_hand and wall < by_hand[1] else []),
        ]

    def _is_woken(self) -> bool:
        """Whether somebody has asked a fleet of none, and may yet come back."""
        activated_at = self._link.orders.activated_at
        if activated_at is None:
            return False
        waits_s = self._autoscaler.meter.cold_start.cautious_s + self._autoscaler.limits.stable_s
        return time.time() - activated_at < waits_s

    def _keep(self, record: ScalingRecord) -> None:
        """In the log and as metrics; what changes nothing, only once in a while."""
        self._gauges.set(record)
        self._quiet += 1
        is_kept = record.target != record.before or self._quiet >= _QUIET_TICKS
        if is_kept:
            self._quiet = 0
        if record.target != record.before:
            # Serve's processes log warnings and worse, and this is to be found in the log.
            _LOG.warning("replicas %d -> %d: %s", record.before, record.target, record.reason)
        plain = record.plain()
        for alarm in self._alarms.look(plain, record.at):
            _LOG.warning("%s, %s: %s", alarm.short, alarm.why, record.reason)
        self._link.tell(
            {**plain, "at": time.time()},
            is_kept,
            # Nothing of this module, which Serve ships by value: two classes of one name do not
            # pickle.
            pickle.dumps((record.at, self._autoscaler.memory)),
            Sizes(record.ready, record.target, record.cold_start.cautious_s),
        )


def read_floor(sent: dict[str, Any]) -> FloorWindow | Recurrence:
    """An entry of the schedule, as `scaling_settings.py` sends it."""
    if "cron" in sent:
        return Recurrence(**{**sent, "zone": ZoneInfo(sent["zone"])})
    return FloorWindow(**sent)


def readings(raw_metrics: Any) -> dict[str, ReplicaReading]:
    """Each replica's last report, of those that report all of it."""
    by_name = {name: raw_metrics.get(READING_PREFIX + name, {}) for name in ReplicaReading.names()}
    found = {}
    for replica in by_name["sequence"]:
        series = [by_name[name].get(replica) for name in ReplicaReading.names()]
        if all(series):
            last = (points[-1].value for points in series)
            found[replica.unique_id] = ReplicaReading(*last)
    return found
