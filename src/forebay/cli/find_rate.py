"""`forebay load --find-rate`: what is shown of the search, and its end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from forebay.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.capacity import Trial
    from forebay.load.results import Goal, RateFound
    from forebay.load.run import LoadPlan, LoadRun


def search(plan: LoadPlan, goal: Goal, output: Path | None, as_json: bool) -> Exit:
    """Search, telling each trial; returns the command's exit code."""
    from forebay.load.results import InvalidTrialError, find_rate
    from forebay.load.run.runner import WorkerFailedError

    trials: list[Trial] = []

    def tell(trial: Trial, run: LoadRun) -> None:
        trials.append(trial)
        if not as_json:
            typer.echo(trial_line(trial, run), err=True)

    talking = sorted({kind.name for kind in plan.workload.requests if kind.conversation})
    if talking:
        typer.echo(
            f"forebay: {', '.join(talking)}: most further turns of conversations come after a "
            f"trial of {goal.seconds:.0f} s; for what the service sustains with them, write a "
            "longer --for",
            err=True,
        )
    try:
        found = find_rate(plan, goal, tell)
    except (InvalidTrialError, WorkerFailedError) as error:
        typer.echo(f"forebay: {error}", err=True)
        _keep(trials, str(error), plan, output, as_json)
        return Exit.ENVIRONMENT_FAILED
    except ValueError as error:  # a file that the workload names
        typer.echo(f"forebay: {error}", err=True)
        return Exit.INPUT_IS_WRONG
    except KeyboardInterrupt:
        typer.echo("stopped before the rate was found", err=True)
        _keep(trials, "stopped before the rate was found", plan, output, as_json)
        return Exit.ENVIRONMENT_FAILED
    _tell(found, as_json)
    if output is not None and not _written(found, plan, output):
        return Exit.ENVIRONMENT_FAILED
    return Exit.FINE if found.found.rate > 0 else Exit.CHECK_SAYS_NO


def trial_line(trial: Trial, run: LoadRun) -> str:
    """One trial in a line."""
    summary = run.summary
    verdict = "sustained" if trial.sustained else "not sustained"
    ttft = "-" if summary.ttft_p99 is None else f"{1e3 * summary.ttft_p99:.0f} ms"
    return (
        f"{trial.rate:8.2f}/s for {run.duration_s:.0f} s: {verdict} ({trial.reason}); "
        f"TTFT p99 {ttft}, shed {summary.shed}, failed {summary.failed}"
    )


def answer_line(found: RateFound) -> str:
    """The answer with its interval and the reason why the search ended."""
    answer = found.found
    upper = f" to {answer.high:.2f}" if answer.high is not None else " or more"
    return f"sustained: {answer.rate:.2f}/s (between {answer.low:.2f}{upper}); {answer.reason}"


def _tell(found: RateFound, as_json: bool) -> None:
    typer.echo(json.dumps(found.as_dict(), allow_nan=False) if as_json else answer_line(found))


def _keep(
    trials: Sequence[Trial], why: str, plan: LoadPlan, output: Path | None, as_json: bool
) -> None:
    """Tells what the trials said so far, and writes it."""
    from forebay.load.results import unfinished

    if not trials:
        return
    found = unfinished(trials, why)
    _tell(found, as_json)
    if output is not None:
        _written(found, plan, output)


def _written(found: RateFound, plan: LoadPlan, output: Path) -> bool:
    try:
        _write(found, plan, output)
    except OSError as error:
        typer.echo(f"forebay: {output} cannot be written: {error.strerror}", err=True)
        return False
    return True


def _write(found: RateFound, plan: LoadPlan, output: Path) -> None:
    from forebay.load.results import judged

    output.mkdir(parents=True, exist_ok=True)
    if found.run is not None:
        judged(found.run, plan.endpoint, ()).write(output)
    text = json.dumps(found.as_dict(), indent=2, allow_nan=False)
    (output / "find-rate.json").write_text(f"{text}\n", "utf-8")
