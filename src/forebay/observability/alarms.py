"""What a decision on a fleet's size says that somebody should look at, in the same words each time.

MISSING: the demand asks for more than `scaling.max`. OVERDUE: replicas that were asked for and have
not started. BLIND: too few of those that serve report, so the fleet is held. A fleet of which none
serves yet is starting and not blind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# Who has only just begun to serve has not reported yet.
_BLIND_S = 10.0

Trouble = Literal["MISSING", "OVERDUE", "BLIND"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something to look at.

    Attributes:
        trouble: its kind.
        short: in a word or two.
        why: in words.
    """

    trouble: Trouble
    short: str
    why: str


def alarms(decision: Mapping[str, Any] | None) -> list[Alarm]:
    """Those of a decision, as `ScalingRecord.plain` tells it; None: there is none."""
    if decision is None:
        return []
    found = []
    allowed, overdue = decision["allowed"], decision.get("overdue", 0)
    if missing := int(allowed["missing"]):
        why = "the demand asks for more than scaling.max"
        found.append(Alarm("MISSING", f"{missing} MISSING", why))
    if overdue:
        found.append(Alarm("OVERDUE", f"{overdue} OVERDUE", "asked for long ago and not started"))
    if "blind" in allowed.get("limits", ()) and decision.get("ready"):
        found.append(Alarm("BLIND", "BLIND", "too few replicas report; the fleet is held"))
    return found


class NewAlarms:
    """Which alarms have begun: each is told once, until it has ended."""

    def __init__(self) -> None:
        self._since: dict[Trouble, float] = {}
        self._told: set[Trouble] = set()

    def look(self, decision: Mapping[str, Any], now: float) -> list[Alarm]:
        """Those to be told at `now`, in seconds of a clock that never goes back."""
        current = alarms(decision)
        self._since = {one.trouble: self._since.get(one.trouble, now) for one in current}
        self._told &= self._since.keys()
        due = [one for one in current if one.trouble not in self._told and self._is_due(one, now)]
        self._told.update(one.trouble for one in due)
        return due

    def _is_due(self, one: Alarm, now: float) -> bool:
        return one.trouble != "BLIND" or now - self._since["BLIND"] >= _BLIND_S
