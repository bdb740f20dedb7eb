"""From a trace to a workload file, judged as it will be played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forebay.record.files import OnBytes, read_lines
from forebay.record.fitted_file import FittedFile, fitted_file
from forebay.spec.workload import load_workload
from forebay.workload import (
    FitQuality,
    OpenLoop,
    Row,
    fit_workload,
    judge_fit,
    read_trace,
    spread_out,
)


class WouldOverwriteError(ValueError):
    """A file that would be written is there already; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A workload file that was written.

    Attributes:
        files: written, the workload file last.
        workload: as the file says, read back.
        quality: how well it stands for the recording.
        step_s: the step in which the recording's times were written, spread out for the fit;
            0 where they were fine enough.
    """

    files: tuple[Path, ...]
    workload: OpenLoop
    quality: FitQuality
    step_s: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "files": [str(path) for path in self.files],
            "pieces": len(self.workload.curve.pieces),
            "gap_cv": self.workload.law.cv,
            "kinds": [kind.name for kind in self.workload.kinds],
            "time_step_s": self.step_s,
            **self.quality.as_dict(),
        }


def read_rows(name: str, format_name: str, on_bytes: OnBytes | None = None) -> list[Row]:
    """The rows of a trace's file (`-`: stdin); see `workload.traces.read_trace`.

    Raises:
        ValueError: it is not of the format, holds no request, or is packed and damaged.
        OSError: it cannot be read.
    """
    return read_trace(format_name, (line or "" for line in read_lines(name, on_bytes)))


def fit_trace(
    rows: Sequence[Row], output: Path, source: str, *, seed: int = 0, overwrite: bool = False
) -> Fitted:
    """Fits the rows, writes the file, reads it back and judges what it makes.

    Args:
        rows: in order of time, from second 0.
        output: the workload file; tables of lengths come to lie beside it.
        source: where the rows come from, in words.
        seed: of the fit's own draws, and of the workload.
        overwrite: files that are there already.

    Raises:
        ValueError: the rows are too few, or came at one moment.
        WouldOverwriteError: a file is there already.
        OSError: a file cannot be written.
    """
    fine, step_s = spread_out(rows, np.random.default_rng([seed, 6]))
    files = fitted_file(fit_workload(fine, seed), output, source)
    _refuse_to_overwrite(files, overwrite)
    files.write()
    workload = load_workload(str(output.resolve())).make()
    assert isinstance(workload, OpenLoop)
    quality = judge_fit(fine, workload)
    return Fitted(files=tuple(files.texts), workload=workload, quality=quality, step_s=step_s)


def _refuse_to_overwrite(files: FittedFile, overwrite: bool) -> None:
    existing = [] if overwrite else files.existing()
    if existing:
        raise WouldOverwriteError(f"{existing[0]} exists")
