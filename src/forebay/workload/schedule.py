"""A workload: who asks what, when. The load client plays it, the simulator too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from forebay.workload.arrivals import Law, arrivals
from forebay.workload.kinds import Kind, sessions
from forebay.workload.rates import RateCurve
from forebay.workload.requests import Session


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of the run, for its report: seconds from the start, and the rate asked for."""

    label: str
    start_s: float
    end_s: float
    rate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Sessions that arrive by a law of gaps through a curve of rates, whatever became of others."""

    curve: RateCurve
    law: Law
    kinds: Sequence[Kind]
    seed: int = 0

    @property
    def seconds(self) -> float:
        """How long sessions arrive."""
        return self.curve.seconds

    def schedule(self) -> list[Session]:
        """Every session in order of time."""
        times = arrivals(self.curve, self.law, np.random.default_rng([self.seed, 2])).tolist()
        stream = sessions(self.kinds, self.seed)
        return [replace(session, at_s=at_s) for at_s, session in zip(times, stream, strict=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """A number of clients, each of which asks again when it was answered."""

    clients: int
    seconds: float
    kinds: Sequence[Kind]
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clients < 1 or not self.seconds > 0:
            asked = f"{self.clients} for {self.seconds} s"
            raise ValueError(f"a closed loop needs 1 client or more and some time, not {asked}")

    def stream(self) -> Iterator[Session]:
        """Sessions for its clients to ask, without end."""
        return sessions(self.kinds, self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """Sessions at the times at which they were recorded, in order."""

    recorded: Sequence[Session]
    seconds: float

    def schedule(self) -> list[Session]:
        """Every session in order of time."""
        return list(self.recorded)


Workload = OpenLoop | ClosedLoop | Replay


def share_of(items: Sequence[Session], worker: int, workers: int) -> list[Session]:
    """What one of several workers plays: every `workers`-th session; together they play all."""
    return list(islice(items, worker, None, workers))
