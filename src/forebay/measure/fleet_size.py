"""How large a fleet was during a run, in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSize:
    """A fleet at one moment of a run.

    Attributes:
        t: seconds since the start of the run.
        ready: replicas that take requests.
        target: replicas asked for; None where their number is fixed.
        missing: further ones that the demand asks for and `scaling.max` withholds.
        reason: why the target is what it is; empty where it is fixed.
    """

    t: float
    ready: int
    target: int | None = None
    missing: int = 0
    reason: str = ""

    @classmethod
    def told(cls, t: float, status: Mapping[str, Any]) -> FleetSize:
        """From what `/forebay/status` answered at second `t`."""
        last = status["scaling"][-1] if status["scaling"] else None
        return cls(
            t=t,
            ready=sum(not replica["draining"] for replica in status["replicas"]),
            target=None if last is None else int(last["target"]),
            missing=int(status["missing"]),
            reason="" if last is None else str(last["reason"]),
        )
