"""A fitted workload as a workload file, with the lengths that it names beside it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from forebay.spec.files import format_rate, format_seconds
from forebay.workload import (
    Constant,
    Fixed,
    Gamma,
    Histogram,
    Hold,
    Independent,
    Joint,
    Kind,
    Law,
    Lengths,
    Lognormal,
    OpenLoop,
    PairLaw,
    Piece,
    PrefixPool,
)
from forebay.workload.kinds import Pairs

_INLINE_PAIRS = 20  # more go into a file of their own
_DIGITS = 4  # of a rate: beyond, it is noise


@dataclass(frozen=True, slots=True)
class FittedFile:
    """What is to be written: files by their paths, the workload file last."""

    path: Path
    texts: Mapping[Path, str]

    def existing(self) -> list[Path]:
        """Those of the files that would be overwritten."""
        return [path for path in self.texts if path.exists()]

    def write(self) -> None:
        """Writes them.

        Raises:
            OSError: one cannot be written.
        """
        for path, text in self.texts.items():
            path.write_text(text, "utf-8")


def fitted_file(workload: OpenLoop, path: Path, source: str) -> FittedFile:
    """The files of a workload that `fitting.fit_workload` made.

    Args:
        workload: it.
        path: of the workload file.
        source: where its figures come from, for the file to say.
    """
    tables: dict[Path, str] = {}
    content = {
        "name": path.stem,
        "description": "Recorded traffic as laws.",
        "source": source,
        "arrivals": _arrivals(workload.law),
        "stages": [_stage(piece) for piece in workload.curve.pieces],
        "requests": [_kind(kind, path, tables) for kind in workload.kinds],
        "seed": workload.seed,
    }
    text = yaml.safe_dump(
        content, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    return FittedFile(path, {**tables, path: text})


def _arrivals(law: Law) -> str | dict[str, Any]:
    if isinstance(law, Gamma):
        return {"gamma": {"cv": law.cv}}
    return "constant" if isinstance(law, Constant) else "poisson"


def _stage(piece: Piece) -> dict[str, str]:
    assert isinstance(piece, Hold)
    rate = format_rate(float(f"{piece.level:.{_DIGITS}g}"))
    return {"hold": rate, "for": format_seconds(max(round(piece.seconds, 3), 0.001))}


def _kind(kind: Kind, path: Path, tables: dict[Path, str]) -> dict[str, Any]:
    content: dict[str, Any] = {"name": kind.name, "share": float(f"{kind.share:.6g}")}
    if kind.class_name:
        content["class"] = kind.class_name
    content |= _lengths(kind, path, tables)
    if kind.prefixes is not None:
        content["prefixes"] = _prefixes(kind.prefixes)
    if kind.tenants:
        content["tenants"] = [{"name": name, "weight": weight} for name, weight in kind.tenants]
    return content


def _lengths(kind: Kind, path: Path, tables: dict[Path, str]) -> dict[str, Any]:
    law: PairLaw = kind.lengths
    if isinstance(law, Independent):
        return {"prompt": _law(law.prompt), "output": _law(law.output)}
    assert isinstance(law, Joint)
    if len(law.pairs) <= _INLINE_PAIRS:
        return {"joint": [list(pair) for pair in law.pairs]}
    slug = re.sub(r"[^\w.-]+", "-", kind.name)
    table = path.with_name(f"{path.stem}-{slug}-lengths.csv")
    tables[table] = _table(law.pairs)
    return {"joint": table.name}


def _table(pairs: Pairs) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("prompt", "output"))
    writer.writerows(pairs)
    return text.getvalue()


def _prefixes(pool: PrefixPool) -> dict[str, Any]:
    return {"count": pool.count, "tokens": _law(pool.lengths), "zipf": pool.zipf}


def _law(law: Lengths) -> int | dict[str, Any]:
    if isinstance(law, Fixed):
        return law.tokens
    if isinstance(law, Lognormal):
        ends = {"min": law.least, "max": law.most}
        return {"lognormal": {"p50": law.p50, "p99": law.p99, **ends}}
    assert isinstance(law, Histogram)  # its weights are counts
    return {
        "histogram": {"edges": list(law.edges), "weights": [int(weight) for weight in law.weights]}
    }
