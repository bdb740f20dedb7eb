"""A load test from its plan to its folder: run, scrape, judge, report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from forebay import __version__
from forebay.load.plan import Endpoint
from forebay.load.results.folder import summary_of, without_credentials, write_run
from forebay.load.results.scaling_watch import (
    SCALING,
    Decision,
    OnSize,
    ScalingWatch,
    write_decisions,
)
from forebay.load.results.scrape import Scraper
from forebay.load.run import LoadPlan, LoadRun, OnTick, Workers, run_load
from forebay.measure import (
    METRICS,
    Binding,
    FleetSize,
    ServerSample,
    gather_evidence,
    run_intervals,
    sample_run,
    with_emulation,
)
from forebay.measure.binding import binding
from forebay.measure.windows import windows
from forebay.report import LoadReport, LoadStage, render_load_page

REPORT = "report.html"
_SERVER, _FLEET = "server.parquet", "fleet.parquet"
_MADE_OF_IT = ("scaling-replay.html", "find-rate.json")  # by other commands, of the run before
_FEWEST_FOR_INTERVALS = 30  # requests
_RESAMPLES = 200  # 100,000 requests take 3 s


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run with the server's own series and what they say together.

    Attributes:
        run: what the client measured.
        endpoint: of what.
        server: the server's series, on the run's time axis; empty where it has none.
        binding: what bound.
        intervals: (low, high) of 95 % by headline figure.
        scaling: decisions on the number of replicas, of a Forebay service that makes any.
        fleet: its size meanwhile, where somebody has looked.
        unread: seconds at which the server's metrics could not be read.
    """

    run: LoadRun
    endpoint: Endpoint
    server: Sequence[ServerSample]
    binding: Binding
    intervals: dict[str, tuple[float, float]]
    scaling: Sequence[Decision] = ()
    fleet: Sequence[FleetSize] = ()
    unread: int = 0

    def summary(self) -> dict[str, Any]:
        """What `summary.json` says."""
        server = {"samples": len(self.server), "unread": self.unread}
        facts = summary_of(self.run, self.endpoint, server)
        facts["binding"] = asdict(self.binding)
        facts["intervals"] = {name: list(pair) for name, pair in self.intervals.items()}
        return facts

    def report(self) -> LoadReport:
        """What the page is drawn from."""
        run, slo = self.run, self.run.workload.slo
        return LoadReport(
            title=f"Load test: {run.workload.name}",
            target=without_credentials(self.endpoint.url),
            model=self.endpoint.model,
            workload=run.workload.name,
            workload_text=run.workload.description,
            started_at=_moment(run.started_at),
            duration_s=run.duration_s,
            slo_ttft_s=slo.ttft,
            slo_tpot_s=slo.tpot,
            records=run.counted,
            binding=self.binding,
            client=run.client,
            valid=run.validity.valid,
            validity_reasons=run.validity.reasons,
            stages=[
                LoadStage(stage.label, stage.start_s, stage.end_s, stage.rate)
                for stage in run.workload.report_stages(run.duration_s)
            ],
            windows=windows(run.counted, _window_s(run.duration_s), slo.ttft, slo.tpot, run.tail),
            server=self.server,
            fleet=self.fleet,
            max_num_seqs=_slots(self.server),
            intervals=self.intervals,
            footer=f"forebay {__version__}; prompt lengths {self.endpoint.lengths}",
        )

    def write(self, folder: Path) -> None:
        """Writes the folder: requests, summary, workload, series of the server, of the fleet and of
        scaling decisions where there were any, and the report.

        Raises:
            OSError: it cannot be written.
        """
        write_run(folder, self.run, self.summary())
        for name in (_SERVER, _FLEET, SCALING, *_MADE_OF_IT):  # in a folder that is used again
            (folder / name).unlink(missing_ok=True)
        for name, series in ((_SERVER, self.server), (_FLEET, self.fleet)):
            if series:
                table = pa.Table.from_pylist([asdict(one) for one in series])
                pq.write_table(table, folder / name)
        if self.scaling:
            write_decisions(folder / SCALING, self.scaling)
        (folder / REPORT).write_text(render_load_page(self.report()), "utf-8")


def measure(
    plan: LoadPlan,
    metrics: Sequence[str] = (),
    on_tick: OnTick | None = None,
    workers: Callable[[Any], Workers] | None = None,
    status: Callable[[], Any] | None = None,
    on_size: OnSize | None = None,
) -> Measured:
    """Runs the plan, reading the server's metrics from some addresses meanwhile.

    `status` reads what a Forebay service tells of itself, with its scaling decisions; `on_size` is
    told its size about once a second, in a thread of its own.

    Raises:
        WorkerFailedError: a worker failed.
    """
    scraper = Scraper(metrics)
    watch = None if status is None else ScalingWatch(status, on_size=on_size)

    def start(start_at: float) -> None:
        if metrics:
            scraper.start(start_at)
        if watch is not None:
            watch.start(start_at)

    try:
        run = run_load(plan, on_tick, on_start=start, workers=workers)
    finally:
        samples = scraper.stop()
        decisions = [] if watch is None else watch.stop()
    late = None if watch is None else watch.late
    measured = judged(run, plan.endpoint, [one for one in samples if one.t >= 0], late)
    # A fleet that decides nothing is of a fixed size, and is not looked at to the end.
    sizes = watch.sizes if watch is not None and decisions else ()
    return replace(measured, scaling=decisions, fleet=sizes, unread=scraper.failures)


def judged(
    run: LoadRun, endpoint: Endpoint, server: Sequence[ServerSample], late: float | None = None
) -> Measured:
    """The run with its intervals and what bound.

    Args:
        run: what the client saw.
        endpoint: of what.
        server: its metrics meanwhile.
        late: most steps by which an emulated engine said that it was late at p99.
    """
    told = (late, *(sample.emulation_late for sample in server))
    late = max((steps for steps in told if steps is not None), default=None)
    run = replace(
        run,
        validity=with_emulation(
            run.validity, late, run.client.machine_idle, run.client.machine_stolen
        ),
    )
    slo, records = run.workload.slo, run.counted
    evidence = gather_evidence(
        records,
        duration_s=run.duration_s,
        stages=[(s.start_s, s.end_s) for s in run.workload.report_stages(run.duration_s)],
        slo_ttft_s=slo.ttft,
        slo_tpot_s=slo.tpot,
        valid=run.validity.valid,
        invalid_because="; ".join(run.validity.reasons),
        server=server,
        max_num_seqs=_slots(server),
    )
    return Measured(
        run=run,
        endpoint=endpoint,
        server=server,
        binding=binding(evidence),
        intervals=_intervals(run),
    )


def _slots(server: Sequence[ServerSample]) -> int | None:
    """Sequences that can run at once, where the server says so; the most, as a fleet grows."""
    told = [sample.slots for sample in server if sample.slots is not None]
    return int(max(told)) if told else None


def _intervals(run: LoadRun) -> dict[str, tuple[float, float]]:
    """The noise within the run; what cannot be told has none."""
    slo, records = run.workload.slo, run.counted
    if len(records) < _FEWEST_FOR_INTERVALS:
        return {}
    sampled = sample_run(records, run.duration_s, slo.ttft, slo.tpot, run.tail)
    statistics = [metric.statistic for metric in METRICS]
    found = run_intervals(sampled, statistics, np.random.default_rng(0), _RESAMPLES)
    return {
        metric.name: (interval.low, interval.high)
        for metric, interval in zip(METRICS, found, strict=True)
        if math.isfinite(interval.low) and math.isfinite(interval.high)
    }


def _window_s(duration_s: float) -> float:
    """A second, or what makes some 600 windows of a long run."""
    return max(1.0, float(np.ceil(duration_s / 600)))


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
