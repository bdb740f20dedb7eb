"""Load workers on the nodes of a Ray cluster: one client machine is seldom enough for a fleet."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from forebay.load.plan import WorkerPlan
from forebay.load.run import PartFacts, Shard
from forebay.load.run.progress import Progress
from forebay.load.run.workers import WorkerFailedError
from forebay.measure import RequestRecord
from forebay.serving.cluster.preflight import EnvironmentFailedError, check_cluster_answers

_TICK_S = 1.0
_STOP_S = 30.0
_PLACED_S = 300.0  # for all of them to be placed, and their schedules made


class Player:
    """One worker, as an actor: `play` runs in one thread, the rest beside it in another."""

    def __init__(self, order: str) -> None:
        self._part = Shard(WorkerPlan.parse(order))
        self._progress: Progress | None = None

    def planned(self) -> int | None:
        """Sessions in its schedule."""
        return self._part.planned

    def play(self, start_at: float) -> tuple[list[RequestRecord], PartFacts]:
        """Plays its part; what it measured."""
        return self._part.play(start_at, self._note)

    def progress(self) -> Progress | None:
        """How far it is."""
        return self._progress

    def stop(self) -> None:
        """Ends the play early."""
        self._part.stop()

    def _note(self, progress: Progress) -> None:
        self._progress = progress


class RayCrew:
    """The workers of a run, spread over the cluster's nodes.

    Clocks: second 0 is a moment of `time.time`, so the nodes' clocks must agree (NTP) to within
    what a start may be late. Latencies are each node's own and need no common clock.
    """

    def __init__(self, orders: Sequence[WorkerPlan], address: str) -> None:
        """Starts an actor a part.

        Raises:
            WorkerFailedError: the cluster does not answer or has no room.
        """
        import ray

        self._ray = ray
        try:
            check_cluster_answers(address, "--ray")
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level="ERROR",
                namespace="forebay-load",
            )
        except EnvironmentFailedError as error:
            raise WorkerFailedError(str(error)) from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise WorkerFailedError(f"the Ray cluster {address} cannot be used: {error}") from error
        actor = ray.remote(Player)
        # One CPU each, spread: two workers on one node would share its network card.
        options: dict[str, Any] = {
            "num_cpus": 1, "scheduling_strategy": "SPREAD", "max_concurrency": 2,
        }  # fmt: skip
        self._players = [
            actor.options(**options).remote(replace(order, records=None).as_json())
            for order in orders
        ]
        self._playing: list[Any] = []
        self._results: list[tuple[list[RequestRecord], PartFacts]] = []

    def prepare(self) -> list[int | None]:
        """Waits for every schedule to be made."""
        planned = [player.planned.remote() for player in self._players]
        found: list[int | None] = self._got(planned, _PLACED_S)
        return found

    def play(self, start_at: float, on_tick: Callable[[int, Progress], None]) -> None:
        """Plays all parts to their end."""
        self._playing = [player.play.remote(start_at) for player in self._players]
        self._wait(on_tick, None)

    def stop(self) -> None:
        """Has them end, and takes what they measured."""
        self._got([player.stop.remote() for player in self._players])
        self._wait(lambda number, progress: None, _STOP_S)

    def results(self) -> list[tuple[list[RequestRecord], PartFacts]]:
        """What each measured."""
        return self._results

    def close(self) -> None:
        """Ends the actors and leaves the cluster."""
        for player in self._players:
            self._ray.kill(player)
        self._ray.shutdown()

    def _wait(self, on_tick: Callable[[int, Progress], None], timeout_s: float | None) -> None:
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        waiting = list(self._playing)
        while waiting:
            _, waiting = self._ray.wait(waiting, num_returns=len(waiting), timeout=_TICK_S)
            if waiting:
                reports = self._got([player.progress.remote() for player in self._players])
                for number, progress in enumerate(reports):
                    if progress is not None:
                        on_tick(number, progress)
            if waiting and give_up is not None and time.monotonic() > give_up:
                raise WorkerFailedError("a load worker does not stop")
        self._results = self._got(self._playing)

    def _got(self, references: list[Any], timeout_s: float | None = None) -> Any:
        try:
            return self._ray.get(references, timeout=timeout_s)
        except self._ray.exceptions.GetTimeoutError as error:
            count = len(self._players)
            raise WorkerFailedError(
                f"the cluster had no room for {count} load workers of 1 CPU each, or they made no "
                f"schedule, within {timeout_s:.0f} s"
            ) from error
        except self._ray.exceptions.RayError as error:
            raise WorkerFailedError(f"a load worker failed: {error}") from error
