"""What in a service file is no fault and yet hardly meant: said as warnings, by the time it is."""

from __future__ import annotations

from collections.abc import Iterator

from forebay.policies.scaling import FloorWindow
from forebay.spec.service.service_spec import ServiceSpec


def doubts(spec: ServiceSpec, now: float) -> Iterator[str]:
    """Each as a line; `now` in seconds since 1970."""
    server = spec.server
    if server.ray_address is not None and server.host != "0.0.0.0":
        yield (
            f"server.host: with {server.host} replicas on other nodes of the cluster cannot be "
            "reached; write 0.0.0.0 where it has more than one"
        )
    for place, floor in enumerate(spec.scaling.schedule):
        window = floor.entry()
        if isinstance(window, FloorWindow) and window.end <= now:
            yield (
                f"scaling.schedule.{place}: its window ended at {floor.until:%Y-%m-%d %H:%M%z}, "
                f"so nothing holds {floor.min} replicas; is the year right?"
            )
