"""Floors by the clock: a fleet that is warm and ready before a launch, not on its way to be.

A window says from when until when there must be so many replicas; a recurrence, the same by a cron
expression in a time zone. Each begins early by the cold start, so that its replicas are ready, and
not merely asked for, when it does. Daylight saving is the zone's: 08:30 stays 08:30.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo

from cronsim import CronSim

# A floor is promised to be ready: beyond the longest start seen, the second of a tick and the time
# until routers and HAProxy have heard of a replica.
EARLY_S = 3.0


@dataclass(frozen=True, slots=True)
class FloorWindow:
    """From `start` until `end` (seconds since 1970) there must be at least `replicas`."""

    start: float
    end: float
    replicas: int

    def holds(self, now: float, lead_s: float) -> bool:
        """Whether the fleet must have, or be getting, its replicas."""
        return self.start - lead_s <= now < self.end


@dataclass(frozen=True, slots=True)
class Recurrence:
    """For `seconds` from each time of a cron expression there must be at least `replicas`."""

    cron: str
    zone: tzinfo
    seconds: float
    replicas: int

    def holds(self, now: float, lead_s: float) -> bool:
        """Whether the fleet must have, or be getting, its replicas."""
        # Only the first time after the earliest that could still hold needs to be known.
        # In seconds, not by the clock on the wall, which may have jumped in between.
        since = datetime.fromtimestamp(now - self.seconds, self.zone)
        first = next(CronSim(self.cron, since), None)
        return first is not None and first.timestamp() - lead_s <= now


def floors(schedule: Sequence[FloorWindow | Recurrence], now: float, lead_s: float) -> list[int]:
    """The floors in force.

    Args:
        schedule: of the service.
        now: seconds since 1970.
        lead_s: by how much each begins early: what a cold start takes.
    """
    return [one.replicas for one in schedule if one.holds(now, lead_s)]
