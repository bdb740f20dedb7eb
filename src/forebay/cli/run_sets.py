"""Reading the runs that a command was given: folders of runs, or several of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.cli.exits import refuse

if TYPE_CHECKING:
    from forebay.load.results import RunFolder
    from forebay.measure import RunSample

_MARK = "summary.json"  # a folder that holds it is a run


def read_runs_or_exit(text: str) -> list[RunFolder]:
    """The runs of a folder, of the folders in it, or of several with commas between them.

    Prints why and exits with 2 when one cannot be read.

    Raises:
        typer.Exit: there is no run, or one cannot be read.
    """
    from forebay.load.results import RunFolderError, read_run

    try:
        return [read_run(path) for path in _run_paths(text)]
    except (RunFolderError, OSError) as error:
        refuse(str(error))


def sample(run: RunFolder, judged_by: RunFolder) -> RunSample:
    """A run as arrays, its goodput judged by the SLO of another."""
    from forebay.load.run import without_tail
    from forebay.measure import sample_run

    slo, duration_s = judged_by.summary["slo"], float(run.summary["duration_s"])
    counted, tail = run.records, run.records[:0]
    if run.summary["client"]["planned"] is None:  # a closed loop
        counted, tail = without_tail(run.records, duration_s)
    return sample_run(counted, duration_s, slo["ttft_s"], slo["tpot_s"], tail)


def _run_paths(text: str) -> Iterator[Path]:
    """One path for each run.

    Raises:
        FileNotFoundError: a folder is none, or holds no run.
    """
    parts = [text] if Path(text).exists() else text.split(",")
    for path in (Path(part.strip()) for part in parts):
        inside = sorted(mark.parent for mark in path.glob(f"*/{_MARK}"))
        if not path.is_dir():
            raise FileNotFoundError(f"{path} is not a folder")
        if not inside and not (path / _MARK).exists():
            raise FileNotFoundError(f"{path} is no run: it holds no {_MARK}, nor do its folders")
        yield from [path] if (path / _MARK).exists() else inside
