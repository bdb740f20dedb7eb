"""Scaling policies as the simulated fleet asks them: what is seen, and how many there should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from forebay.policies.scaling import Autoscaler, ReplicaReading, ScalingRecord


@dataclass(frozen=True, slots=True)
class Sight:
    """A fleet at one moment.

    Attributes:
        now: seconds.
        ready: names of the replicas that serve.
        target: replicas asked for; those beyond `ready` are starting.
        readings: what the ready ones report; empty without Forebay's gate.
    """

    now: float
    ready: Sequence[str]
    target: int
    readings: Mapping[str, ReplicaReading]


class Scaler(Protocol):
    """A scaling policy with its state. Asked once a second; the fleet keeps to its bounds."""

    def target(self, sight: Sight) -> int:
        """Replicas that there should be."""


class Static:
    """Always the same number."""

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    def target(self, sight: Sight) -> int:
        """That number."""
        return self._replicas

    def __repr__(self) -> str:
        return f"<Static {self._replicas}>"


class TokenScaler:
    """Forebay's own, as production runs it."""

    def __init__(self, autoscaler: Autoscaler) -> None:
        self.autoscaler = autoscaler
        self.records: list[ScalingRecord] = []

    def target(self, sight: Sight) -> int:
        """What the autoscaler decides; the record of it is kept."""
        record = self.autoscaler.decide(sight.readings, sight.ready, sight.target, sight.now)
        self.records.append(record)
        return record.target

    def __repr__(self) -> str:
        return f"<TokenScaler {len(self.records)} decisions>"
