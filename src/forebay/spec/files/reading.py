"""A file that a user wrote, read and judged by a model; each fault with its line."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from forebay.spec.files.closest_words import as_fault, is_unknown_key
from forebay.spec.files.problems import Fault, Problem, SpecError
from forebay.spec.files.yaml_tree import Tree, parse

_Model = TypeVar("_Model", bound=BaseModel)


def read_text(path: str | Path, hint: str = "", missing: str = "no such file") -> str:
    """The file's text.

    Args:
        path: of the file.
        hint: what to do where there is none.
        missing: what is said then.

    Raises:
        SpecError: it cannot be read.
    """
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        problem = Problem(str(path), 0, 0, "", missing, hint)
    except UnicodeDecodeError as error:
        problem = Problem(str(path), 0, 0, "", f"not UTF-8 text (byte {error.start})")
    except OSError as error:
        problem = Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror}")
    raise SpecError([problem])


def read_model(
    model: type[_Model], text: str, file: str, hint: str, context: Any = None, **limits: int
) -> _Model:
    """What the text says; `hint` is what to do about an empty one. `limits` are those of `parse`.

    Raises:
        SpecError: it says something impossible.
    """
    if all(line.lstrip()[:1] in ("", "#") for line in text.splitlines()):
        raise SpecError([Problem(file, 1, 1, "", "the file is empty", hint)])
    tree = parse(text, file, **limits)
    try:
        return model.model_validate(tree.data, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise SpecError(problem_of(one, model, tree, file) for one in details) from None


def problem_of(one: ErrorDetails, model: type[BaseModel], tree: Tree, file: str) -> Problem:
    """A fault that pydantic found: at its key where that is not known, else at its value."""
    fault = as_fault(one, model)
    if not is_unknown_key(one):
        return at_value(fault, tree, file)
    place = tree.place_of_key(fault.loc)
    return Problem(file, *place, ".".join(fault.loc), fault.message, fault.hint)


def at_value(fault: Fault, tree: Tree, file: str) -> Problem:
    """A fault at the value that it is of."""
    place = tree.place_of_value(fault.loc)
    return Problem(file, *place, ".".join(fault.loc), fault.message, fault.hint)
