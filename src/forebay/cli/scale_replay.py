"""`forebay scale --replay`: what a file's scaling would have decided in a recorded run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from forebay.cli.exits import fail, refuse
from forebay.load.results import ScalingFileError, read_decisions
from forebay.policies.scaling import EARLY_S, Capacity, floors
from forebay.report import ScalingReport, render_scaling_page, rows
from forebay.simulate import Look, RecordedScaling, read_record, replay, totals
from forebay.spec.service import ServiceSpec, declared_capacity, scaling_policy

if TYPE_CHECKING:
    from rich.table import Table

PAGE = "scaling-replay.html"
_MOST_CHANGES = 20  # shown in the terminal


def replay_run(spec: ServiceSpec, run: Path, output: Path | None, as_json: bool) -> None:
    """Replay a run's decisions with the spec's policy; a table here, a picture in a page."""
    records = _records_or_exit(run)
    looks = _replayed(spec, records)
    report = ScalingReport(service=spec.name, run=str(run), settings=_settings(spec), looks=looks)
    page = output or run / PAGE
    try:
        page.write_text(render_scaling_page(report), "utf-8")
    except OSError as error:
        fail(f"{page} cannot be written: {error.strerror}")
    if as_json:
        typer.echo(json.dumps(_plain(report, page), allow_nan=False))
    else:
        _print(report, page)


def _records_or_exit(run: Path) -> list[RecordedScaling]:
    try:
        decisions = read_decisions(run)
    except ScalingFileError as error:
        refuse(str(error))
    records = []
    for number, one in enumerate(decisions, start=1):
        try:
            records.append(read_record(one))
        except ValueError as error:
            refuse(f"{run}: decision {number}: {error}")
    if len(records) < 2:
        refuse(f"{run}: one decision is no run to replay")
    return sorted(records, key=lambda record: record.at)


def _replayed(spec: ServiceSpec, records: Sequence[RecordedScaling]) -> list[Look]:
    config, limits = scaling_policy(spec)
    schedule = [floor.entry() for floor in spec.scaling.schedule]
    records = [_as_declared(record, declared_capacity(spec)) for record in records]
    return replay(
        records, config, limits, lambda at, lead_s: floors(schedule, at, lead_s + EARLY_S)
    )


def _as_declared(record: RecordedScaling, declared: Capacity | None) -> RecordedScaling:
    """The record, had the file said then what a replica sustains."""
    if declared is None or record.seen is None:
        return record
    capacity = replace(declared, kv=record.seen.capacity.kv)
    return replace(record, seen=replace(record.seen, capacity=capacity))


def _settings(spec: ServiceSpec) -> str:
    scaling = spec.scaling
    text = (
        f"min {scaling.min}, max {scaling.max}, headroom {scaling.headroom:.0%}, "
        f"stable {scaling.stable:g} s"
    )
    floors_there = len(scaling.schedule)
    return f"{text}, {floors_there} scheduled floors" if floors_there else text


def _plain(report: ScalingReport, page: Path) -> dict[str, Any]:
    then, now = totals(report.looks)
    return {
        "service": report.service,
        "run": report.run,
        "settings": report.settings,
        "page": str(page),
        "then": asdict(then),
        "now": asdict(now),
        "looks": [asdict(look) for look in report.looks],
    }


def _print(report: ScalingReport, page: Path) -> None:
    from rich.console import Console

    console = Console()
    console.print(_totals_table(report))
    changes = report.changes
    if changes:
        console.print(_changes_table(report, changes[:_MOST_CHANGES]))
    if len(changes) > _MOST_CHANGES:
        console.print(f"... and {len(changes) - _MOST_CHANGES} more, on the page")
    console.print(f"page: {page}", soft_wrap=True)


def _totals_table(report: ScalingReport) -> Table:
    from rich.table import Table

    table = Table(title=f"{report.service} in {report.run}; by this file: {report.settings}")
    table.add_column("")
    for name in ("then", "by this file"):
        table.add_column(name, justify="right")
    for row in rows(report):
        table.add_row(*row)
    return table


def _changes_table(report: ScalingReport, changes: Sequence[Look]) -> Table:
    from rich.table import Table

    table = Table(title="where the size changes")
    for name in ("second", "then", "by this file"):
        table.add_column(name, justify="right")
    table.add_column("why, by this file")
    for look in changes:
        second = f"{look.at - report.looks[0].at:.0f}"
        table.add_row(second, str(look.then[0]), str(look.now[0]), look.now_why)
    return table
