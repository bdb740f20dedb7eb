"""`forebay compare`: whether runs B differ from runs A by more than noise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forebay.cli.exits import Exit, refuse
from forebay.cli.run_sets import read_runs_or_exit, sample

if TYPE_CHECKING:
    from forebay.load.results import RunFolder
    from forebay.measure import Comparison, Margins, Rule, RuleResult

_WIDTH = 100  # the table's, also where the output is no terminal
_STYLES = {"better": "green", "worse": "red", "undecided": "yellow", "same": ""}


def compare(
    a: Annotated[str, typer.Argument(help="Runs before: see above.")],
    b: Annotated[str, typer.Argument(help="Runs after.")],
    paired: Annotated[
        bool, typer.Option("--paired", help="Run i of A against run i of B: they alternated.")
    ] = False,
    margin: Annotated[
        list[str] | None,
        typer.Option(help='What counts as the same: "5%", or for one metric "p99 TTFT=10%".'),
    ] = None,
    gate: Annotated[Path | None, typer.Option(help="File with a rule a line: see above.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="An undecided rule of the gate fails.")
    ] = False,
    allow_invalid: Annotated[
        bool, typer.Option("--allow-invalid", help="Compare runs that are not to be believed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples of single runs.")] = 0,
) -> None:
    """Say for each metric whether runs B are better, the same, worse, or too noisy to tell.

    A and B are each a folder that `forebay load` wrote, a folder of such folders, or several with
    commas between them. Five runs a side tell changes from noise; one run cannot know how much runs
    differ by themselves. A gate's rules read "p99 TTFT not worse than 10 %", "goodput not worse
    than 5 %", "failures not above 1 %".

    Exit code 1: a rule of the gate fails; without a gate, a metric is worse; or a run is invalid;
    2: an option, the gate or a run's folder is wrong.

    Example: forebay compare runs/before runs/after --gate gate.txt
    """
    import numpy as np

    from forebay.measure import compare as compare_runs

    margins, rules = _margins_or_exit(margin or []), _rules_or_exit(gate, strict)
    runs_a, runs_b = read_runs_or_exit(a), read_runs_or_exit(b)
    if paired and len(runs_a) != len(runs_b):
        refuse(f"--paired needs equal numbers of runs, not {len(runs_a)} and {len(runs_b)}")
    warnings = _warnings_or_exit(runs_a, runs_b, allow_invalid)
    samples_a, samples_b = ([sample(run, runs_a[0]) for run in side] for side in (runs_a, runs_b))
    rng = np.random.default_rng(seed)
    comparison = compare_runs(samples_a, samples_b, rng, paired=paired, margins=margins)
    results = _judge(rules, comparison)
    (_print_json if as_json else _print)(comparison, results, warnings)
    raise typer.Exit(_exit_code(comparison, results, strict))


def _margins_or_exit(texts: list[str]) -> Margins:
    from forebay.measure import AmountError, Margins, UnknownMetricError

    try:
        return Margins.parse(texts)
    except (AmountError, UnknownMetricError) as error:
        refuse(f"--margin: {error}; {error.hint}")


def _rules_or_exit(gate: Path | None, strict: bool) -> list[Rule]:
    from forebay.measure import GateError, parse_gate

    if gate is None:
        if strict:
            refuse("--strict needs a --gate")
        return []
    try:
        return parse_gate(gate.read_text("utf-8"))
    except GateError as error:
        refuse(*(f"{gate}: {fault}" for fault in error.faults))
    except (OSError, UnicodeDecodeError) as error:
        refuse(f"{gate} cannot be read: {error}")


def _warnings_or_exit(
    runs_a: list[RunFolder], runs_b: list[RunFolder], allow_invalid: bool
) -> list[str]:
    from forebay.measure import invalid_runs, mismatches

    invalid = invalid_runs({str(run.path): run.summary for run in (*runs_a, *runs_b)})
    if invalid and not allow_invalid:
        for line in (*invalid, "not compared; --allow-invalid compares all the same"):
            typer.echo(line, err=True)
        raise typer.Exit(Exit.CHECK_SAYS_NO)
    return invalid + mismatches([run.summary for run in runs_a], [run.summary for run in runs_b])


def _judge(rules: list[Rule], comparison: Comparison) -> list[RuleResult]:
    from forebay.measure.gates import judge

    return judge(rules, comparison)


def _exit_code(comparison: Comparison, results: list[RuleResult], strict: bool) -> Exit:
    if results:
        fine = all(result.holds(strict=strict) for result in results)
    else:
        fine = not comparison.with_verdict("worse")
    return Exit.FINE if fine else Exit.CHECK_SAYS_NO


def _print(comparison: Comparison, results: list[RuleResult], warnings: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from forebay.report import COLUMNS, cells, headline, rule_line

    console = Console(highlight=False, markup=False, width=_WIDTH)
    for line in warnings:
        console.print(f"WARNING: {line}")
    pairs = ", paired" if comparison.paired else ""
    table = Table(title=f"{comparison.runs_a} runs A, {comparison.runs_b} runs B{pairs}")
    for place, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if 0 < place < len(COLUMNS) - 1 else "left")
    for one in comparison.metrics:
        table.add_row(*cells(one), style=_STYLES[one.verdict])
    console.print(table)
    for line in (*comparison.notes, headline(comparison)):
        console.print(line)
    for result in results:
        console.print(rule_line(result))


def _print_json(comparison: Comparison, results: list[RuleResult], warnings: list[str]) -> None:
    import json

    content = {
        "warnings": warnings,
        **comparison.as_dict(),
        "gate": [
            {"line": one.rule.line, "rule": one.rule.text, "status": one.status} for one in results
        ],
    }
    typer.echo(json.dumps(content, indent=2, allow_nan=False))
