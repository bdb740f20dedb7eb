"""Reads workload files and the built-in workloads."""

from importlib.resources import files
from pathlib import Path

import yaml

from forebay.spec.files import did_you_mean, read_model, read_text
from forebay.spec.workload.workload_spec import WorkloadSpec

_FOLDER = files("forebay.spec").joinpath("workloads")
_MOST_VALUES = 1_000_000  # of a file: a month of rates, one every 10 s, has 800,000
_START = "forebay workloads chat prints one to start from"


def built_in_names() -> list[str]:
    """The workloads that come along."""
    names = [entry.name for entry in _FOLDER.iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def built_in_text(name: str) -> str:
    """The file of a built-in workload.

    Raises:
        KeyError: there is none of that name.
    """
    if name not in built_in_names():
        raise KeyError(name)
    return _FOLDER.joinpath(f"{name}.yaml").read_text("utf-8")


def load_workload(source: str) -> WorkloadSpec:
    """A built-in workload by its name, or a workload file by its path.

    Raises:
        SpecError: there is neither, or the file says something impossible.
    """
    if source in built_in_names():
        return load_workload_text(built_in_text(source), f"{source} (built in)")
    path, hint = Path(source), did_you_mean(source, built_in_names())
    text = read_text(path, hint, "no such file or built-in workload")
    return load_workload_text(text, source, path.resolve().parent)


def load_workload_text(text: str, file: str, folder: Path | None = None) -> WorkloadSpec:
    """The workload that the text describes; `file` is the name used in problems.

    Raises:
        SpecError: the text says something impossible.
    """
    context = {"folder": folder or Path()}
    return read_model(WorkloadSpec, text, file, _START, context, most=_MOST_VALUES)


def workload_text(spec: WorkloadSpec) -> str:
    """The workload as a file."""
    return yaml.safe_dump(spec.plain(), sort_keys=False, allow_unicode=True, width=100)
