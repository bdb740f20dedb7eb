"""Reads workload files and the built-in workloads."""

from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from forebay.spec.files import (
    Problem,
    SpecError,
    Tree,
    as_fault,
    did_you_mean,
    is_unknown_key,
    parse,
)
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
    path = Path(source)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        hint = did_you_mean(source, built_in_names())
        raise SpecError(
            [Problem(source, 0, 0, "", "no such file or built-in workload", hint)]
        ) from None
    except UnicodeDecodeError as error:
        raise SpecError(
            [Problem(source, 0, 0, "", f"not UTF-8 text (byte {error.start})")]
        ) from None
    except OSError as error:
        raise SpecError([Problem(source, 0, 0, "", f"cannot be read: {error.strerror}")]) from None
    return load_workload_text(text, source, path.resolve().parent)


def load_workload_text(text: str, file: str, folder: Path | None = None) -> WorkloadSpec:
    """The workload that the text describes; `file` is the name used in problems.

    Raises:
        SpecError: the text says something impossible.
    """
    if all(line.lstrip()[:1] in ("", "#") for line in text.splitlines()):
        raise SpecError([Problem(file, 1, 1, "", "the file is empty", _START)])
    tree = parse(text, file, most=_MOST_VALUES)
    try:
        return WorkloadSpec.model_validate(tree.data, context={"folder": folder or Path()})
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise SpecError(_problem(tree, file, one) for one in details) from None


def workload_text(spec: WorkloadSpec) -> str:
    """The workload as a file."""
    return yaml.safe_dump(spec.plain(), sort_keys=False, allow_unicode=True, width=100)


def _problem(tree: Tree, file: str, one: ErrorDetails) -> Problem:
    fault = as_fault(one, WorkloadSpec)
    place = tree.place_of_key if is_unknown_key(one) else tree.place_of_value
    return Problem(file, *place(fault.loc), ".".join(fault.loc), fault.message, fault.hint)
