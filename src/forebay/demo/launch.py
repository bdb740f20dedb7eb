"""A workload offered to a service just started, with the fleet watched meanwhile."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from forebay.load.measured import Measured, measure
from forebay.load.probe import Asked, look_at
from forebay.load.runner import LoadPlan, OnTick, Progress
from forebay.measure.fleet_size import FleetSize
from forebay.spec.workload import WorkloadSpec

if TYPE_CHECKING:
    from forebay.serving.platform import Platform

_ANSWER_S = 2.0
_TIMEOUT_S = 600.0  # a slowed engine's long answer is no failure

Say = Callable[[str], None]


class FleetWatch:
    """Notes the fleet's size at every tick of a run, and says when it changes."""

    def __init__(self, url: str, say: Say) -> None:
        """`url` is the service's root; `say` takes a line for the user."""
        self._url = url
        self._say = say
        self.sizes: list[FleetSize] = []

    def look(self, t: float) -> None:
        """At second `t`; a service that does not answer just now leaves a gap."""
        try:
            with urllib.request.urlopen(f"{self._url}/forebay/status", timeout=_ANSWER_S) as answer:
                size = FleetSize.told(t, json.load(answer))
        except (OSError, ValueError):
            return
        for line in changes(self.sizes[-1] if self.sizes else None, size):
            self._say(line)
        self.sizes.append(size)


def changes(before: FleetSize | None, now: FleetSize) -> list[str]:
    """What to say of a fleet's size, given the one before."""
    lines, at = [], f"{now.t:4.0f} s  "
    if before is None:
        return [f"{at}{_replicas(now.ready)} ready"]
    if now.target != before.target:
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
    root = platform.url.removesuffix("/v1")
    watch = FleetWatch(root, say)

    def each(progress: Progress) -> None:
        watch.look(progress.t)
        tick(progress)

    plan = LoadPlan(
        endpoint=look_at(Asked(url=root)),
        workload=workload,
        timeout_s=_TIMEOUT_S,
        cores=sorted(platform.spare_cores) or None,  # not those that the model computes on
    )
    return replace(measure(plan, platform.metrics_pages, each), fleet=watch.sizes)
