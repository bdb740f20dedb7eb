"""`forebay demo`: see the platform served, measured, overloaded and recovering."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.exits import Exit
from forebay.cli.run_output import writable_or_exit
from forebay.cli.serve import catch_signals, start_with_progress
from forebay.cli.specs import load_or_exit

if TYPE_CHECKING:
    from rich.console import Console

    from forebay.report import DemoData
    from forebay.spec.service import ServiceSpec

_WIDTH = 100  # the table's, also where the output is no terminal


def demo(
    file: Annotated[Path, typer.Argument(help="Service file.")] = Path("examples/demo.yaml"),
    workload: Annotated[
        str | None,
        typer.Option("--workload", "-w", help="Offer this instead: a file, or one built in."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Page to write (runs/demo.html); with --workload, the run's folder."),
    ] = None,
) -> None:
    """Serve a model, measure its capacity, offer half, once, three times and half of it again.

    Prints a table and writes one page with the time series; then stops everything. Takes about
    three minutes, more on the first start. With --workload, offers that and says how the fleet
    grows and shrinks; the folder is that of a load test, its report with the replicas over time.

    Exit code 3: it cannot run here, or, with --workload, the run is INVALID.

    Example: forebay demo examples/demo.yaml --output demo.html
    """
    spec = load_or_exit(file)
    if spec.tenants is not None:
        typer.echo(
            f"forebay: {file}: tenants: the demo asks without a key; leave it out, or use "
            "forebay serve and forebay load",
            err=True,
        )
        raise typer.Exit(Exit.INPUT_IS_WRONG)
    if workload is not None:
        from forebay.cli.launch import launch

        raise typer.Exit(launch(spec, workload, output))
    output = output or Path("runs/demo.html")
    writable_or_exit(output.parent)
    raise typer.Exit(run(spec, output))


def run(spec: ServiceSpec, output: Path) -> Exit:
    """Run the demo; returns the command's exit code."""
    from rich.console import Console

    from forebay.load.client import EndpointError
    from forebay.load.run.runner import WorkerFailedError
    from forebay.report import render_demo_page
    from forebay.serving.cluster import EnvironmentFailedError, Platform

    catch_signals()
    console = Console(highlight=False, markup=False, width=_WIDTH)  # a model says anything
    try:
        with Platform(spec) as platform:
            start_with_progress(platform, time.monotonic())
            data = _offer(platform, console)
            typer.echo("\nstopping everything")
        _print(data, console)
        output.write_text(render_demo_page(data), "utf-8")
    except KeyboardInterrupt:
        typer.echo("\nstopped")
        return Exit.ENVIRONMENT_FAILED
    except (EnvironmentFailedError, EndpointError, WorkerFailedError, OSError) as error:
        typer.echo(f"forebay: {error}", err=True)
        return Exit.ENVIRONMENT_FAILED
    console.print(f"\nThe page with the time series: {output}")
    return Exit.FINE


def _offer(platform: object, console: Console) -> DemoData:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from forebay.demo import FACTORS, STAGE_S, run_demo
    from forebay.load.run.progress import Progress as Load

    columns = (TextColumn("{task.description}"), BarColumn(30), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("one chat, then the capacity", total=len(FACTORS) * STAGE_S)

        def tick(load: Load) -> None:
            stage = min(int(load.t // STAGE_S), len(FACTORS) - 1)
            ttft = "-" if load.ttft_p99 is None else f"{load.ttft_p99 * 1e3:.0f} ms"
            text = (
                f"{FACTORS[stage]:g} x capacity  in flight {load.in_flight}  shed {load.shed}  "
                f"TTFT p99 {ttft}"
            )
            bar.update(task, completed=load.t, description=text)

        return run_demo(platform, console.print, tick)  # type: ignore[arg-type]


def _print(data: DemoData, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{data.workload}; capacity {data.capacity_rps:.0f} requests/s")
    for name in ("load", "offered/s", "admitted/s", "shed/s", "good/s"):
        table.add_column(name, justify="right")
    for name in ("TTFT p50", "TTFT p99", "TPOT p50", "tokens/s"):
        table.add_column(name, justify="right")
    for stage in data.stages:
        s = stage.summary
        rates = (s.offered_per_s, s.admitted_per_s, s.shed_per_s, s.goodput_per_s)
        table.add_row(
            f"{stage.factor:g} x",
            *(f"{rate:.1f}" for rate in rates),
            *(_milliseconds(value) for value in (s.ttft_p50, s.ttft_p99, s.tpot_p50)),
            f"{s.tokens_per_s:.0f}",
        )
    console.print(table)
    lag, client = _milliseconds(data.client.lag_p99_s), data.client
    how = "real-time scheduled" if client.realtime else f"not real-time ({client.realtime_reason})"
    console.print(f"good: first token within {data.slo_ttft_s:g} s of the intended send time")
    console.print(f"client: {how}, p99 lag {lag}")
    if not client.valid:
        console.print(f"NOT VALID: {client.validity_reason}; every latency above includes that")


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1e3:.0f} ms"
