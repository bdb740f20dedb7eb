"""The folder that a run leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from forebay.load.plan import Endpoint
from forebay.load.run import LoadRun, RecordsError, read_records, write_records
from forebay.measure import RequestRecord, tokens_within
from forebay.spec.workload import workload_text

SCHEMA = 1
_REQUESTS, _SUMMARY, _WORKLOAD = "requests.parquet", "summary.json", "workload.yaml"


class RunFolderError(ValueError):
    """A folder is not that of a run; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run as it was written.

    Attributes:
        path: the folder.
        records: its requests.
        summary: what `summary.json` holds.
    """

    path: Path
    records: list[RequestRecord]
    summary: dict[str, Any]


def usual_folder(run: LoadRun) -> Path:
    """Where a run goes whose user names no folder: runs/NAME-TIME."""
    moment = datetime.fromtimestamp(run.started_at)
    return Path("runs") / f"{run.workload.name.replace('/', '-')}-{moment:%Y%m%d-%H%M%S}"


def summary_of(
    run: LoadRun, endpoint: Endpoint, server: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `summary.json` says of a run.

    Args:
        run: what was measured.
        endpoint: of what.
        server: further facts of the server, to stand under ``server``.
    """
    text, slo = workload_text(run.workload), run.workload.slo
    return {
        "schema": SCHEMA,
        "forebay": version("forebay"),
        "started_at": datetime.fromtimestamp(run.started_at, UTC).isoformat(timespec="seconds"),
        "valid": run.validity.valid,
        "validity_reasons": list(run.validity.reasons),
        "workload": run.workload.name,
        "fingerprint": hashlib.sha256(text.encode()).hexdigest()[:16],
        "salt": run.salt,
        "slo": {"ttft_s": slo.ttft, "tpot_s": slo.tpot},
        "duration_s": run.duration_s,
        "endpoint": {
            "url": without_credentials(endpoint.url),
            "model": endpoint.model,
            "api": endpoint.api,
            "prompt_lengths": endpoint.lengths,
            "exact_output": endpoint.exact_output,
        },
        "client": asdict(run.client),
        "overall": run.summary.as_dict(),
        "stages": stage_rows(run),
        "kinds": _groups(run, "kind"),
        "classes": _groups(run, "class_name"),
        "tenants": _groups(run, "tenant"),
        "server": dict(server or {}),
        "environment": environment(),
    }


def stage_rows(run: LoadRun) -> list[dict[str, Any]]:
    """Each stage summed up by the requests that were meant to be sent in it.

    But for tokens/s: those that arrived in it, whenever they were asked for.
    """
    rows = []
    for stage in run.workload.report_stages(run.duration_s):
        mine = [r for r in run.counted if stage.start_s <= r.intended_s < stage.end_s]
        seconds = stage.end_s - stage.start_s
        summary = run.summarised(mine, seconds)
        tokens = sum(tokens_within(r, stage.start_s, stage.end_s) for r in run.records)
        rows.append({**asdict(stage), **summary.as_dict(), "tokens_per_s": tokens / seconds})
    return rows


def _groups(run: LoadRun, attribute: str) -> dict[str, Any]:
    def of(records: Sequence[RequestRecord], name: str) -> list[RequestRecord]:
        return [record for record in records if getattr(record, attribute) == name]

    names = sorted({str(getattr(record, attribute)) for record in run.counted})
    return {
        name: run.summarised(of(run.counted, name), tail=of(run.tail, name)).as_dict()
        for name in names
        if name
    }


def environment() -> dict[str, Any]:
    """What the client ran on."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": {name: version(name) for name in ("httptools", "numpy", "pyarrow", "uvloop")},
    }


def without_credentials(url: str) -> str:
    """The URL without a user or password in it."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def write_run(folder: Path, run: LoadRun, summary: Mapping[str, Any]) -> None:
    """Writes the requests, the summary and the workload.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_records(run.records, folder / _REQUESTS)
    text = json.dumps(summary, indent=2, allow_nan=False)
    (folder / _SUMMARY).write_text(f"{text}\n", "utf-8")
    (folder / _WORKLOAD).write_text(workload_text(run.workload), "utf-8")


def read_run(path: Path) -> RunFolder:
    """Reads a run's folder.

    Raises:
        RunFolderError: it is not one, or was written by a version with another schema.
    """
    try:
        summary = json.loads((path / _SUMMARY).read_text("utf-8"))
        if summary.get("schema") != SCHEMA:
            raise RunFolderError(
                f"{path}: schema {summary.get('schema')!r}, and this version reads {SCHEMA}"
            )
        return RunFolder(path, read_records(path / _REQUESTS), summary)
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        raise RunFolderError(f"{path} is not a run's folder: it has no {name}") from None
    except (OSError, RecordsError, ValueError, AttributeError) as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"{path} cannot be read: {error}") from None
