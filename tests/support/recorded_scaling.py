"""A recorded run of scaling decisions, as `forebay load` stores one: a swell of requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forebay.policies.scaling import Autoscaler, LimitConfig, ReplicaReading, ScalingConfig

BEGAN_AT = 1_780_000_000.0
CONFIG = ScalingConfig(headroom=0.2, tolerated_s=0.5)
LIMITS = LimitConfig(min=1, max=6, stable_s=60.0)
COLD_START_S = 20.0
_PER_REPLICA = 1_000.0  # prompt tokens/s
_SWELL = ((120, 600.0), (120, 3_200.0), (120, 6_500.0), (240, 500.0))  # seconds, tokens/s


def decisions() -> list[dict[str, Any]]:
    """The decisions of a fleet with these settings, one a second."""
    scaler = Autoscaler(CONFIG, LIMITS, cold_start_s=COLD_START_S)
    ready_at, counted, sequence = [0.0], 0.0, 0
    found = []
    rates = [rate for seconds, rate in _SWELL for _ in range(seconds)]
    for second, rate in enumerate(rates):
        sequence, counted = sequence + 1, counted + rate
        ready = [f"r{k}" for k, at in enumerate(ready_at) if at <= second]
        reading = ReplicaReading(sequence, counted, 0, 0, 0, 0, _PER_REPLICA, 1_000.0, 1e6)
        idle = ReplicaReading(sequence, 0, 0, 0, 0, 0, _PER_REPLICA, 1_000.0, 1e6)
        readings = {name: reading if name == "r0" else idle for name in ready}
        record = scaler.decide(readings, ready, len(ready_at), float(second))
        found.append({**record.plain(), "at": BEGAN_AT + second})
        more = record.target - len(ready_at)
        ready_at = ready_at[: record.target] + [second + COLD_START_S] * max(more, 0)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def run_folder(folder: Path) -> Path:
    """The folder of a run that holds them."""
    lines = "".join(f"{json.dumps(one)}\n" for one in decisions())
    (folder / "scaling.jsonl").write_text(lines)
    return folder
