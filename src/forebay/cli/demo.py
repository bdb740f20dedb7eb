"""`forebay demo`: see the platform served, measured, overloaded and recovering."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.exits import Exit
from forebay.cli.run_output import writable_or_exit
from forebay.cli.service import ended, service
from forebay.cli.specs import load_or_exit

if TYPE_CHECKING:
    from rich.console import Console

    from forebay.demo import Shown
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

    console = Console(highlight=False, markup=False, width=_WIDTH)  # a model says anything

    def show() -> Exit:
        with service(spec) as platform:
            shown = _offer(platform, console)
            typer.echo("\nstopping everything")
        _print(shown, console)
        output.write_text(shown.page(), "utf-8")
        console.print(f"\nThe page with the time series: {output}")
        return Exit.FINE

    return ended(show, typer.echo, interrupted=Exit.ENVIRONMENT_FAILED)


def _offer(platform: object, console: Console) -> Shown:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from forebay.cli.load_progress import milliseconds
    from forebay.demo import FACTORS, STAGE_S, run_demo
    from forebay.load.run.progress import Progress as Load

    columns = (TextColumn("{task.description}"), BarColumn(30), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("one chat, then the capacity", total=len(FACTORS) * STAGE_S)

        def tick(load: Load) -> None:
            stage = min(int(load.t // STAGE_S), len(FACTORS) - 1)
            text = (
                f"{FACTORS[stage]:g} x capacity  in flight {load.in_flight}  shed {load.shed}  "
                f"TTFT p99 {milliseconds(load.ttft_p99)}"
            )
            bar.update(task, completed=load.t, description=text)

        return run_demo(platform, console.print, tick)  # type: ignore[arg-type]


def _print(shown: Shown, console: Console) -> None:
    from rich.table import Table

    from forebay.cli.load_progress import milliseconds
    from forebay.demo import FACTORS, REQUESTS
    from forebay.load.results import stage_rows

    run = shown.measured.run
    table = Table(title=f"{REQUESTS}; capacity {shown.capacity:.0f} requests/s")
    for name in ("load", "offered/s", "admitted/s", "shed/s", "good/s"):
        table.add_column(name, justify="right")
    for name in ("TTFT p50", "TTFT p99", "TPOT p50", "tokens/s"):
        table.add_column(name, justify="right")
    for factor, row in zip(FACTORS, stage_rows(run), strict=True):
        table.add_row(
            f"{factor:g} x",
            *(f"{row[f'{name}_per_s']:.1f}" for name in ("offered", "admitted", "shed", "goodput")),
            *(milliseconds(row[name]) for name in ("ttft_p50", "ttft_p99", "tpot_p50")),
            f"{row['tokens_per_s']:.0f}",
        )
    console.print(table)
    client = run.client
    how = "real-time scheduled" if client.realtime else f"not real-time ({client.realtime_reason})"
    console.print(f"good: first token within {run.workload.slo.ttft:g} s of the intended send time")
    console.print(f"client: {how}, p99 lag {milliseconds(client.lag_p99_s)}")
    if not run.validity.valid:
        reasons = "; ".join(run.validity.reasons)
        console.print(f"NOT VALID: {reasons}; every latency above includes that")
