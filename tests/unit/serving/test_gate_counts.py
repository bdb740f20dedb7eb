"""What was offered was admitted or shed, and what was admitted has ended, whatever fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from gate_world import CHAT, World, fails_for, serving

from forebay.observability import catalogue
from forebay.policies.request import INTERACTIVE
from forebay.policies.routing import OwnPrefixes


def counted(world: World) -> tuple[float, ...]:
    """Offered, admitted, shed and finished."""
    metrics = (catalogue.OFFERED, catalogue.ADMITTED, catalogue.SHED, catalogue.FINISHED)
    return tuple(world.telemetry.total(metric) for metric in metrics)


def outcomes(world: World) -> dict[str, float]:
    return world.telemetry.by_second_label(catalogue.FINISHED, INTERACTIVE)


@pytest.mark.parametrize(
    "place",
    [
        "admission.costs.price",
        "admission.decide",
        "tenancy.spend",
        "admission.costs.likely",
        "gate._backoff.came",
        "prefixes.let_in",
        "telemetry.sample",
    ],
)
async def test_the_counts_balance_wherever_the_gate_fails(
    monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    world = serving(prefixes=OwnPrefixes())

    def fail(*args: Any, **more: Any) -> None:
        raise RuntimeError("a fault")

    owner, _, name = place.rpartition(".")
    broken: Any = world
    for part in owner.split("."):
        broken = getattr(broken, part)
    monkeypatch.setattr(type(broken), name, fail)
    answer = await fails_for(world.gate)
    assert (answer.status, answer.error["code"]) == (503, "replica_failed")
    assert "retry-after" in answer.headers
    assert "a fault" not in answer.error["message"]
    assert counted(world) == (1, 1, 0, 1)
    assert outcomes(world) == {"error": 1}
    assert not world.admission.ledger.tickets
    assert not world.seen
    monkeypatch.undo()
    world.admission.check_integrity()
    assert (await world.post("/v1/chat/completions", CHAT)).status == 200


async def test_who_leaves_while_the_fleet_is_asked_has_left() -> None:
    world = serving()
    asking = asyncio.Event()

    async def spend(*args: Any) -> None:
        asking.set()
        await asyncio.Event().wait()

    world.tenancy.spend = spend  # type: ignore[assignment, method-assign]
    request = asyncio.ensure_future(world.post("/v1/chat/completions", CHAT))
    await asking.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert counted(world) == (1, 1, 0, 1)
    assert outcomes(world) == {"disconnected": 1}
