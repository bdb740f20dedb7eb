"""A run: worker processes that play one workload together, watched and merged."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import psutil

from forebay.load.plan import Playing, Target, WorkerPlan
from forebay.load.run.progress import Progress, together
from forebay.load.run.shard import PartFacts
from forebay.load.run.table import merged
from forebay.load.run.workers import WorkerFailedError
from forebay.load.run.workers import Workers as Crew
from forebay.measure import ClientFacts, RequestRecord, Summary, Validity, summarise
from forebay.measure.percentiles import percentiles
from forebay.measure.validity import judge
from forebay.spec.workload import WorkloadSpec

__all__ = ["LoadPlan", "LoadRun", "Progress", "WorkerFailedError", "run_load"]

# From "go" to second 0: every worker has heard it by then, and has a first connection.
_LEAD_S, _FAR_LEAD_S = 0.5, 2.0

OnTick = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan(Playing):
    """A run to be made.

    Attributes:
        workload: who asks what, when.
        workers: processes, at most; 0 for as many as the machine has cores to spare (`sized`).
        salt: of the prompts' content; a new one for each run, when None.
    """

    workload: WorkloadSpec
    workers: int = 1
    salt: str | None = None

    def orders(self, folder: Path | None) -> list[WorkerPlan]:
        """Each worker's part; its records go into the folder."""
        workers, salt = self.workers or sized(), self.salt or secrets.token_hex(8)
        if self.workload.closed is not None:  # each has a client to play at least
            workers = min(workers, self.workload.closed.clients)
        return [
            WorkerPlan(
                **self.said(),
                workload=self.workload.plain(),
                worker=worker,
                workers=workers,
                salt=salt,
                records=str(folder / f"part-{worker}.parquet") if folder else None,
            )
            for worker in range(workers)
        ]


def sized() -> int:
    """Workers for this machine: one for every four cores, since one sends thousands a second.

    More would only take cores from what runs beside them.
    """
    return max(1, len(os.sched_getaffinity(0)) // 4)


@dataclass(frozen=True, kw_only=True)
class LoadRun:
    """What was measured.

    Attributes:
        records: one a request, in order of the intended send.
        client: how the client fared.
        validity: whether the run may be believed.
        started_at: second 0, as `time.time` has it.
        duration_s: seconds during which requests were offered.
        workload: what was played.
        salt: of the prompts' content.
        origin_s: second 0 on the first worker's monotonic clock (`time.perf_counter`).
    """

    records: list[RequestRecord]
    client: ClientFacts
    validity: Validity
    started_at: float
    duration_s: float
    workload: WorkloadSpec
    salt: str
    origin_s: float = 0.0

    @cached_property
    def summary(self) -> Summary:
        """The whole run summed up, by the workload's own SLO."""
        slo = self.workload.slo
        return summarise(self.counted, slo.ttft, slo.tpot, self.duration_s, self.tail)

    @property
    def counted(self) -> list[RequestRecord]:
        """The requests of the load asked for: not the tail of a closed loop, in which fewer and
        fewer clients are left.
        """
        return self._parted[0]

    @property
    def tail(self) -> list[RequestRecord]:
        """The others. What they had of tokens by the end is throughput all the same."""
        return self._parted[1]

    @cached_property
    def _parted(self) -> tuple[list[RequestRecord], list[RequestRecord]]:
        if self.workload.closed is None:
            return self.records, []
        return without_tail(self.records, self.duration_s)

    def summarised(
        self,
        records: Sequence[RequestRecord],
        seconds: float | None = None,
        tail: Sequence[RequestRecord] = (),
    ) -> Summary:
        """Some of the requests summed up, with the tokens of some of the tail."""
        whole = len(records) == len(self.counted) and seconds in (None, self.duration_s)
        if whole:
            return self.summary
        slo = self.workload.slo
        return summarise(records, slo.ttft, slo.tpot, seconds or self.duration_s, tail)


def without_tail(
    records: Sequence[RequestRecord], duration_s: float
) -> tuple[list[RequestRecord], list[RequestRecord]]:
    """A closed loop's requests, and apart from them its tail: in flight when it ended.

    Those that failed are none of it: a server that hangs fails requests long after they were sent,
    all of them in the tail, maybe.
    """
    counted: list[RequestRecord] = []
    tail: list[RequestRecord] = []
    for record in records:
        late = record.ended_s > duration_s and not record.failure
        (tail if late else counted).append(record)
    return counted, tail


class Workers(Protocol):
    """Those who play the parts: processes here, or actors of a cluster."""

    def prepare(self) -> list[int | None]:
        """Makes every schedule; the sessions in each, None in a closed loop."""

    def play(self, start_at: float, on_tick: Callable[[int, Progress], None]) -> None:
        """Plays all parts to their end, telling each worker's progress."""

    def stop(self) -> None:
        """Has them end what they are at, and keep what they measured."""

    def results(self) -> list[tuple[list[RequestRecord], PartFacts]]:
        """What each measured."""

    def close(self) -> None:
        """Ends whatever is left of them."""


def run_load(
    plan: LoadPlan,
    on_tick: OnTick | None = None,
    *,
    on_start: Callable[[float], None] | None = None,
    workers: Callable[[Sequence[WorkerPlan]], Workers] | None = None,
) -> LoadRun:
    """Plays the plan's workload.

    Ctrl-C ends the run early; what was measured by then is returned.

    Args:
        plan: what to play, and how.
        on_tick: called about once a second with the progress of all workers together.
        on_start: called with second 0 (a time of `time.time`) once every worker is ready.
        workers: makes those who play; processes on this machine, when None.

    Raises:
        ValueError: a file that the workload names is broken.
        WorkerFailedError: a worker failed; the message is its own.
    """
    with tempfile.TemporaryDirectory(prefix="forebay-load-") as folder:
        orders = plan.orders(Path(folder))
        crew = (workers or Crew)(orders)
        try:
            crew.prepare()
            start_at = time.time() + _lead_s(plan, near=workers is None)
            if on_start is not None:
                on_start(start_at)
            before = psutil.cpu_times()
            interrupted = _play(crew, start_at, len(orders), on_tick)
            idle, stolen = _shares_since(before) if workers is None else (None, None)
            if not _is_here(plan, near=workers is None):
                idle = None  # what others need of it says nothing of the service
            parts = crew.results()
        finally:
            crew.close()
    records = merged(records for records, _ in parts)
    client = _client([facts for _, facts in parts], records, interrupted)
    client = replace(client, machine_idle=idle, machine_stolen=stolen)
    duration_s = plan.workload.make().seconds
    if client.interrupted:
        duration_s = max(0.001, min(duration_s, max(facts.played_s for _, facts in parts)))
    run = LoadRun(
        records=records,
        client=client,
        validity=judge(client),
        started_at=start_at,
        duration_s=duration_s,
        workload=plan.workload,
        salt=orders[0].salt,
        origin_s=parts[0][1].origin_s,
    )
    if run.tail and not run.counted:
        unknown = f"no answer ended within the {duration_s:g} s of the closed loop; a longer --for"
        return replace(run, validity=Validity(False, (unknown,)))
    return run


def _is_here(plan: LoadPlan, *, near: bool) -> bool:
    """Whether client and service are both on this machine; `near`: the client is."""
    return near and Target.from_url(plan.endpoint.url).host in ("127.0.0.1", "localhost", "::1")


def _lead_s(plan: LoadPlan, *, near: bool) -> float:
    return _LEAD_S if _is_here(plan, near=near) else _FAR_LEAD_S


def _shares_since(before: Any) -> tuple[float | None, float | None]:
    """What of all cores' time since `before` nobody used, and what the host took.

    Args:
        before: psutil's `cpu_times`.

    Returns:
        Both as shares; None where the system does not tell.
    """
    now = psutil.cpu_times()._asdict()
    spent = {name: now[name] - early for name, early in before._asdict().items()}
    whole = max(sum(spent.values()) - spent.get("guest", 0.0) - spent.get("guest_nice", 0.0), 1e-9)
    idle, stolen = (spent[name] / whole if name in spent else None for name in ("idle", "steal"))
    return idle, stolen


def _play(crew: Workers, start_at: float, count: int, on_tick: OnTick | None) -> bool:
    """Plays to the end; True when Ctrl-C came before it."""
    last: dict[int, Progress] = {}

    def tick(worker: int, progress: Progress) -> None:
        last[worker] = progress
        # One report a second for all: when the first worker speaks.
        if on_tick is not None and worker == 0:
            on_tick(together([last[i] for i in range(count) if i in last]))

    try:
        crew.play(start_at, tick)
    except KeyboardInterrupt:
        crew.stop()
        return True
    return False


def _client(
    parts: Sequence[PartFacts],
    records: Sequence[RequestRecord],
    interrupted: bool,
) -> ClientFacts:
    p50, p99, most = percentiles([record.client_lag for record in records], (50, 99, 100))
    plans = [part.planned for part in parts]
    return ClientFacts(
        workers=len(parts),
        realtime=all(part.realtime for part in parts),
        realtime_reason=next((p.realtime_reason for p in parts if not p.realtime), ""),
        lag_p50_s=p50,
        lag_p99_s=p99,
        lag_max_s=most,
        stall_max_s=max(part.stall_max_s for part in parts),
        cpu_share=max(part.cpu_s / max(part.wall_s, 1e-9) for part in parts),
        cpu_s=sum(part.cpu_s for part in parts),
        planned=None if None in plans else sum(plan or 0 for plan in plans),
        begun=sum(part.begun for part in parts),
        no_socket=sum(record.outcome == "no_socket" for record in records),
        interrupted=interrupted or any(part.interrupted for part in parts),
    )
