"""Reads a tenants file strictly; no problem that is reported holds a key or a whole hash."""

from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from forebay.spec.files import Problem, SpecError, Tree, as_fault, is_unknown_key, parse
from forebay.spec.tenants.tenant_keys import without_secrets
from forebay.spec.tenants.tenant_list import TenantsSpec

_START = "forebay keys create NAME adds a tenant"


def load_tenants(path: str | Path) -> TenantsSpec:
    """The tenants that the file describes.

    Raises:
        SpecError: the file cannot be read, or says something impossible.
    """
    return load_tenants_text(read_text(path), str(path))


def load_tenants_text(text: str, file: str = "tenants.yaml") -> TenantsSpec:
    """The tenants that the text describes; `file` is the name used in problems.

    Raises:
        SpecError: the text says something impossible.
    """
    try:
        return _load(text, file)
    except SpecError as error:
        raise SpecError(_clean(problem) for problem in error.problems) from None


def read_text(path: str | Path) -> str:
    """The file's text.

    Raises:
        SpecError: it cannot be read.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = Problem(str(path), 0, 0, "", "no such file", _START)
    except UnicodeDecodeError as error:
        problem = Problem(str(path), 0, 0, "", f"not UTF-8 text (byte {error.start})")
    except OSError as error:
        problem = Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}")
    raise SpecError([problem])


def _load(text: str, file: str) -> TenantsSpec:
    if all(line.lstrip()[:1] in ("", "#") for line in text.splitlines()):
        raise SpecError([Problem(file, 1, 1, "", "the file is empty", _START)])
    tree = parse(text, file)
    try:
        return TenantsSpec.model_validate(tree.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise SpecError(_problem(tree, file, one) for one in details) from None


def _problem(tree: Tree, file: str, one: ErrorDetails) -> Problem:
    fault = as_fault(one, TenantsSpec)
    place = tree.place_of_key if is_unknown_key(one) else tree.place_of_value
    return Problem(file, *place(fault.loc), ".".join(fault.loc), fault.message, fault.hint)


def _clean(problem: Problem) -> Problem:
    said = (without_secrets(part) for part in (problem.field, problem.message, problem.hint))
    return Problem(problem.file, problem.line, problem.column, *said)
