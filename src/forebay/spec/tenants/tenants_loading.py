"""Reads a tenants file strictly; no problem that is reported holds a key or a whole hash."""

from pathlib import Path

from forebay.spec.files import Problem, SpecError, read_model, read_text
from forebay.spec.tenants.tenant_keys import without_secrets
from forebay.spec.tenants.tenant_list import TenantsSpec

_START = "forebay keys create NAME adds a tenant"


def load_tenants(path: str | Path) -> TenantsSpec:
    """The tenants that the file describes.

    Raises:
        SpecError: the file cannot be read, or says something impossible.
    """
    return load_tenants_text(read_tenants_text(path), str(path))


def read_tenants_text(path: str | Path) -> str:
    """The file's text.

    Raises:
        SpecError: it cannot be read.
    """
    return read_text(path, _START)


def load_tenants_text(text: str, file: str = "tenants.yaml") -> TenantsSpec:
    """The tenants that the text describes; `file` is the name used in problems.

    Raises:
        SpecError: the text says something impossible.
    """
    try:
        return read_model(TenantsSpec, text, file, _START)
    except SpecError as error:
        raise SpecError(_clean(problem) for problem in error.problems) from None


def _clean(problem: Problem) -> Problem:
    said = (without_secrets(part) for part in (problem.field, problem.message, problem.hint))
    return Problem(problem.file, problem.line, problem.column, *said)
