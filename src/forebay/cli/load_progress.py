"""What `forebay load` shows while it runs, and when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.load.results import stage_rows
from forebay.measure import rate

if TYPE_CHECKING:
    from rich.table import Table

    from forebay.load.results import Measured
    from forebay.load.run.progress import Progress
    from forebay.spec.workload import WorkloadSpec
    from forebay.workload import TraceFacts

_WIDTH = 100  # the table's, also where the output is no terminal


@contextmanager
def watching(workload: WorkloadSpec, *, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar that the function given back moves; nothing at all when quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    if quiet:
        yield lambda progress: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(20), TimeRemainingColumn())
    console = Console(highlight=False, stderr=True)
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"{workload.name}: making the schedule", total=workload.make().seconds)

        def tick(progress: Progress) -> None:
            bar.update(task, completed=progress.t, description=progress_line(progress))

        yield tick


def progress_line(progress: Progress) -> str:
    """The run's state in a line."""
    return (
        f"offered {progress.offered}  in flight {progress.in_flight}  shed {progress.shed}  "
        f"errors {progress.failed}  TTFT p50 {milliseconds(progress.ttft_p50)} "
        f"p99 {milliseconds(progress.ttft_p99)}  client lag {milliseconds(progress.lag_p99)}"
    )


def print_result(measured: Measured, folder: Path | None) -> None:
    """What bound, a table of the stages, the verdict on the run, and where the report is, if so."""
    from rich.console import Console

    console = Console(highlight=False, width=_WIDTH)
    run, said = measured.run, measured.binding
    if not run.validity.valid:
        console.print(f"[bold red]{run.validity}[/]")
    console.print(f"[bold]{said.sentence}[/] {said.setting}".strip())
    console.print(stage_table(measured))
    summary = run.summary
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items())
    retried = f"; {summary.retried} sent again" if summary.retried else ""
    console.print(f"{summary.offered} requests: {outcomes or 'none'}{retried}")
    if run.validity.valid:
        console.print(str(run.validity))
    if measured.unread:
        console.print(f"the server's metrics could not be read {measured.unread} times")
    if folder is not None:
        console.print(f"report: {folder / 'report.html'}")


def stage_table(measured: Measured) -> Table:
    """One row a stage."""
    from rich.table import Table

    run = measured.run
    slo = f"good: first token within {run.workload.slo.ttft:g} s"
    if run.workload.slo.tpot is not None:
        slo += f" and {1e3 * run.workload.slo.tpot:g} ms a token"
    table = Table(title=f"{run.workload.name}; {slo} (of the intended send)")
    for name in ("stage", "offered/s", "shed/s", "failed", "good/s", "TTFT p50", "TTFT p99",
                 "TPOT p50", "tokens/s"):  # fmt: skip
        table.add_column(name, justify="right")
    for row in stage_rows(run):
        table.add_row(
            str(row["label"]),
            *(rate(row[name]) for name in ("offered_per_s", "shed_per_s")),
            str(row["failed"]),
            rate(row["goodput_per_s"]),
            *(milliseconds(row[name]) for name in ("ttft_p50", "ttft_p99", "tpot_p50")),
            f"{row['tokens_per_s']:.0f}",
        )
    return table


def milliseconds(value: float | None) -> str:
    """Seconds as a figure of a table."""
    return "-" if value is None else f"{1e3 * value:.0f} ms"


def trace_lines(workload: WorkloadSpec) -> list[str]:
    """What the trace is, and what the options made of it: which of its features are kept."""
    found = workload.trace_facts()
    if found is None:
        return []
    recorded, played = found
    lines = [f"trace, as recorded: {_facts_line(recorded)}"]
    return lines if recorded == played else [*lines, f"trace, as played:   {_facts_line(played)}"]


def _facts_line(facts: TraceFacts) -> str:
    cv = "-" if facts.gap_cv is None else f"{facts.gap_cv:.2f}"
    gap = facts.reuse_gap_p50_s
    reuse = f", reused after {gap:.0f} s (median)" if gap is not None else ""
    return (
        f"{facts.requests} requests in {facts.seconds:.0f} s ({facts.rate:.2f}/s), burst CV {cv}, "
        f"prompts {facts.prompt_mean:.0f} and outputs {facts.output_mean:.0f} tokens on average, "
        f"{facts.reusable:.1%} of the prompt tokens reusable{reuse}"
    )
