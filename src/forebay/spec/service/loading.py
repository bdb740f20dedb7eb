"""Reads `forebay.yaml` strictly: all its faults at once, each with line, field and a way out.

A file is judged in two steps. The models in `service_spec.py` judge each value; `checks.py` judges
the service as a whole. So that a typing error in one place does not hide that the model folder is
missing, the second step also runs on a file that failed the first: on what is left of it, leaving
out every check that reads a faulty value.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from forebay.spec.files import (
    Problem,
    SpecError,
    Tree,
    as_fault,
    at_value,
    is_unknown_key,
    kind_of,
    parse,
    problem_of,
    read_text,
)
from forebay.spec.service.checks import check_service
from forebay.spec.service.service_spec import ServiceSpec

_STARTER_HINT = "forebay init writes a starter file"

# What stands in for a required value that is missing or faulty while the rest is judged.
_STAND_IN: dict[str, Any] = {"name": "unnamed", "model": {"id": "unnamed", "source": "demo"}}

# Each trial leaves out at least one more section, and sections nest three deep.
_MOST_TRIALS = 4

Loc = tuple[str, ...]


def load_service(path: str | Path) -> ServiceSpec:
    """The service that the file describes; a relative `model.source` counts from its folder.

    Raises:
        SpecError: the file cannot be read, or says something that cannot be served.
    """
    path = Path(path)
    return load_service_text(
        read_text(path, _STARTER_HINT), str(path), folder=path.resolve().parent
    )


def load_service_text(
    text: str, file: str = "forebay.yaml", folder: Path | None = None
) -> ServiceSpec:
    """The service that the text describes; `file` is the name used in problems.

    Raises:
        SpecError: the text says something that cannot be served.
    """
    tree = parse(text, file)
    if not isinstance(tree.data, dict):
        what = f"holds {kind_of(tree.data)}, not keys with values"
        raise SpecError([Problem(file, *tree.place_of_value(()), "", what, _STARTER_HINT)])
    context = {"folder": folder or Path()}
    try:
        service = ServiceSpec.model_validate(tree.data, context=context)
    except ValidationError as error:
        raise SpecError(_all_problems(error, tree, file, context)) from None
    faults = check_service(service)
    if faults:
        raise SpecError(at_value(fault, tree, file) for fault in faults)
    return service


def _all_problems(
    error: ValidationError, tree: Tree, file: str, context: dict[str, Any]
) -> list[Problem]:
    """The values' faults, and those of the service as far as its other values tell."""
    details = error.errors(include_url=False)
    unknown = {as_fault(one, ServiceSpec).loc for one in details if is_unknown_key(one)}
    problems, doubtful = [], set()
    for one in details:
        fault = as_fault(one, ServiceSpec)
        # A default that clashes with a written value is in no line: its section is doubtful.
        written = fault.loc in tree.values or one["type"] == "missing"
        doubtful.add(fault.loc if written else fault.loc[:-1])
        if is_unknown_key(one) or not any(fault.loc[: len(key)] == key for key in unknown):
            problems.append(problem_of(one, ServiceSpec, tree, file))
    return problems + _further_problems(tree, file, context, doubtful)


def _further_problems(
    tree: Tree, file: str, context: dict[str, Any], doubtful: set[Loc]
) -> list[Problem]:
    """Faults of the service as a whole that do not rest on a doubtful value."""
    # What is left of a list would be another list: it goes as a whole.
    doubtful |= {_outside_lists(tree.data, loc) for loc in doubtful}
    service = _sound_part(tree, context, doubtful)
    if service is None:
        return []
    faults = check_service(service, frozenset(doubtful))
    return [at_value(fault, tree, file) for fault in faults]


def _sound_part(tree: Tree, context: dict[str, Any], doubtful: set[Loc]) -> ServiceSpec | None:
    """The service without its doubtful values; adds to them the sections that clash without."""
    for _ in range(_MOST_TRIALS):
        rest = _without(tree.data, (), doubtful)
        model = {**_STAND_IN["model"], **rest.get("model", {})}
        whole = {**_STAND_IN, **rest, "model": model}
        try:
            return ServiceSpec.model_validate(whole, context=context)
        except ValidationError as error:
            faults = (as_fault(one, ServiceSpec).loc[:-1] for one in error.errors())
            doubtful |= {_outside_lists(tree.data, loc) for loc in faults}
    return None


def _outside_lists(data: Any, loc: Loc) -> Loc:
    """The place, or the outermost list that it is in."""
    for depth, key in enumerate(loc):
        if isinstance(data, list):
            return loc[:depth]
        data = data.get(key) if isinstance(data, dict) else None
    return loc


def _without(data: Any, here: Loc, doubtful: set[Loc]) -> Any:
    """The data with every doubtful value left out."""
    if not isinstance(data, dict):
        return data
    kept = {key: value for key, value in data.items() if (*here, str(key)) not in doubtful}
    return {key: _without(value, (*here, str(key)), doubtful) for key, value in kept.items()}
