"""A workload offered to a service just started, with the fleet watched meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from forebay.demo.run import TIMEOUT_S
from forebay.load.client import ProbeTarget, look_at
from forebay.load.results import Measured, measure, status_reader
from forebay.load.run import LoadPlan, OnTick
from forebay.measure import FleetSize
from forebay.spec.workload import WorkloadSpec

if TYPE_CHECKING:
    from forebay.serving.cluster import Platform

Say = Callable[[str], None]


class FleetWatch:
    """Says when the fleet's size changes."""

    def __init__(self, say: Say) -> None:
        """`say` takes a line for the user."""
        self._say = say
        self._last: FleetSize | None = None

    def note(self, size: FleetSize) -> None:
        """The next size, in order of time.

        Where the service's log does not answer just now, what was asked for last still is.
        """
        if size.target is None and self._last is not None:
            size = replace(size, target=self._last.target, reason=self._last.reason)
        for line in changes(self._last, size):
            self._say(line)
        self._last = size


def changes(before: FleetSize | None, now: FleetSize) -> list[str]:
    """What to say of a fleet's size, given the one before."""
    lines, at = [], f"{now.t:4.0f} s  "
    if before is None:
        return [f"{at}{_replicas(now.ready)} ready"]
    if before.target is not None and now.target != before.target:
        lines.append(f"{at}asked for: {before.target} -> {now.target} ({now.reason})")
    if now.ready != before.ready:
        lines.append(f"{at}{_replicas(now.ready)} ready")
    return lines


def _replicas(count: int) -> str:
    return f"{count} replica{'' if count == 1 else 's'}"


def run_launch(platform: Platform, workload: WorkloadSpec, say: Say, tick: OnTick) -> Measured:
    """Play the workload against a platform that is ready.

    Args:
        platform: the running service.
        workload: who asks what, when.
        say: takes a line whenever the fleet's size changes.
        tick: called about once a second.

    Raises:
        EndpointError: the service does not answer.
        WorkerFailedError: a worker of the load client failed.
    """
    plan = LoadPlan(
        endpoint=look_at(ProbeTarget(url=platform.url.removesuffix("/v1"))),
        workload=workload,
        timeout_s=TIMEOUT_S,
        cores=sorted(platform.spare_cores) or None,  # not those that the model computes on
    )
    return measure(
        plan,
        platform.metrics_pages,
        tick,
        status=status_reader(plan),
        on_size=FleetWatch(say).note,
    )
