"""An engine that is moved on only when somebody looks, in virtual time.

Between two looks nothing arrives, so stretches in which the same sequences decode are taken as one
step (`EngineModel.start_step`): up to the look, never beyond it. Whoever looks sees all steps that
are over by then and at most one in progress, exactly as if they had been taken singly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from forebay.engine_model import EngineModel, EngineProfile, EngineRequest, Output, Step


@dataclass(frozen=True, slots=True)
class Done:
    """A step, or several alike, that are over: when each ended, and what came out in all."""

    ends: list[float]
    outputs: list[Output]


class EnginePlayer:
    """One engine. Times are seconds of the simulation."""

    def __init__(self, profile: EngineProfile, *, skip: Callable[[], bool] = lambda: True) -> None:
        """Take equal steps together while `skip` says so; what comes out is the same.

        It may say so while nothing can enter the engine between two looks.
        """
        self.model = EngineModel(profile)
        self._skip = skip
        self._step: Step | None = None

    def add(self, request: EngineRequest, now: float) -> None:
        """A request arrives; the engine has been moved on to `now`."""
        self.model.add(request, now)
        if self._step is None:
            self._step = self.model.start_step(now)

    def abort(self, request_id: str) -> None:
        """A request is given up; see `add`."""
        self.model.abort(request_id)

    def until(self, moment: float) -> Iterator[Done]:
        """Every step that is over by `moment`, in order. Take all of them before anything else."""
        while self._step is not None and self._step.ends_at <= moment:
            step, outputs = self._step, self.model.finish_step()
            # The engine does not wait for what the gate makes of a step: the next has begun.
            self._step = self._started(step.ends_at, moment)
            yield Done(step.ends(), outputs)

    def _started(self, now: float, moment: float) -> Step | None:
        if not self._skip():
            return self.model.start_step(now)
        # A step that is taken by itself may always be begun: arrivals come after it.
        return self.model.start_step(now, moment, over=True)
