"""`forebay demo --workload`: a service started, loaded, watched and stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from forebay.cli.exits import Exit
from forebay.cli.load_progress import print_result, watching
from forebay.cli.run_output import writable_or_exit, written
from forebay.cli.service import ended, service
from forebay.cli.specs import workload_or_exit

if TYPE_CHECKING:
    from forebay.load.results import Measured
    from forebay.spec.service import ServiceSpec
    from forebay.spec.workload import WorkloadSpec


def launch(spec: ServiceSpec, workload: str, output: Path | None) -> Exit:
    """Run it; returns the command's exit code.

    Args:
        spec: the service.
        workload: file, or name of one that is built in.
        output: folder of the run; None: runs/NAME-TIME.
    """
    offered = workload_or_exit(workload)
    writable_or_exit(output)
    try:
        offered.make()  # with the trace that it names: before a service is started for it
    except (ValueError, OSError) as error:
        typer.echo(f"forebay: {error}", err=True)
        return Exit.INPUT_IS_WRONG

    def offer() -> Exit:
        measured = _measured(spec, offered)
        folder = written(measured, output)
        print_result(measured, folder)
        fine = folder is not None and measured.run.validity.valid
        return Exit.FINE if fine else Exit.ENVIRONMENT_FAILED

    return ended(offer, typer.echo, interrupted=Exit.ENVIRONMENT_FAILED)


def _measured(spec: ServiceSpec, workload: WorkloadSpec) -> Measured:
    from forebay.demo import run_launch

    with service(spec) as platform:
        typer.echo(f"\noffering {workload.name} for {workload.make().seconds:.0f} s")
        with watching(workload, quiet=False) as tick:
            measured = run_launch(platform, workload, print, tick)
        typer.echo("\nstopping everything")
    return measured
