"""The service that a command starts, in sight, and stops whatever happens."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from forebay.serving.cluster import Platform
    from forebay.spec.service import ServiceSpec


@contextmanager
def service(spec: ServiceSpec) -> Iterator[Platform]:
    """Starts it, printing each phase with the seconds that passed; stops everything it started."""
    from forebay.serving.cluster import Platform

    catch_signals()
    started = time.monotonic()
    with Platform(spec) as platform:
        for phase in platform.start():
            catch_signals()  # again: Ray puts a handler of its own in their place
            typer.echo(f"{time.monotonic() - started:6.1f} s  {phase}")
        typer.echo(f"{time.monotonic() - started:6.1f} s  ready")
        yield platform


def ended(work: Callable[[], Exit], say: Callable[[str], None], interrupted: Exit) -> Exit:
    """The exit code of work with a service: its own, or that of what ended it.

    Args:
        work: what the command does.
        say: takes a line for the user.
        interrupted: the code where Ctrl-C came.
    """
    from forebay.load.client import EndpointError
    from forebay.load.run.runner import WorkerFailedError
    from forebay.serving.cluster import EnvironmentFailedError

    try:
        return work()
    except KeyboardInterrupt:
        say("\nstopped")
        return interrupted
    except (EnvironmentFailedError, EndpointError, WorkerFailedError, OSError) as error:
        typer.echo(f"forebay: {error}", err=True)
        return Exit.ENVIRONMENT_FAILED


def catch_signals() -> None:
    """Let SIGTERM, and SIGINT where the shell had it ignored, end the command as Ctrl-C does.

    So does a terminal that is closed, but under `nohup`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
