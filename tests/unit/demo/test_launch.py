from __future__ import annotations

from typing import Any

from forebay.demo.launch import changes
from forebay.measure.fleet_size import FleetSize


def status(ready: int, draining: int = 0, target: int | None = None) -> dict[str, Any]:
    """What `/forebay/status` answers, as far as the size goes."""
    decision = {"target": target, "reason": "tokens: asks for more"}
    return {
        "replicas": [{"draining": False}] * ready + [{"draining": True}] * draining,
        "scaling": [] if target is None else [{"target": 1, "reason": "older"}, decision],
        "missing": 0 if target is None else 2,
    }


def test_the_size_is_who_takes_requests_and_the_last_decision() -> None:
    size = FleetSize.told(3.0, status(ready=2, draining=1, target=4))
    assert size == FleetSize(t=3.0, ready=2, target=4, missing=2, reason="tokens: asks for more")
    assert FleetSize.told(0.0, status(ready=3)) == FleetSize(t=0.0, ready=3)


def test_only_changes_are_told_with_their_reason() -> None:
    before = FleetSize(t=1.0, ready=1, target=1)
    assert changes(before, FleetSize(t=2.0, ready=1, target=1, reason="another")) == []
    (asked,) = changes(before, FleetSize(t=7.0, ready=1, target=4, reason="prefill: 3.1"))
    assert "7 s" in asked
    assert "1 -> 4 (prefill: 3.1)" in asked
    (grown,) = changes(before, FleetSize(t=9.0, ready=2, target=1))
    assert "2 replicas ready" in grown
