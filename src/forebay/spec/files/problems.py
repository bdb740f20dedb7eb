"""What is said when an input file is refused: a `Problem` for each fault, in one `SpecError`."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError


@dataclass(frozen=True, order=True)
class Problem:
    """One fault in an input file. Ordered by its place, as an editor would show it."""

    file: str
    line: int  # from 1; 0 when the fault has no line (the file is missing)
    column: int  # from 1; 0 when there is no line
    field: str  # dotted, as in "slo.ttft_p99"; empty for the file as a whole
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        said = f"{self.message}; {self.hint}" if self.hint else self.message
        return f"{place}: {self.field}: {said}" if self.field else f"{place}: {said}"


class SpecError(ValueError):
    """An input file was refused. `problems` holds every fault found, in line order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class Fault:
    """A fault in a value, before it is known where in a file the value stands."""

    loc: tuple[str, ...]
    message: str
    hint: str = ""


def refusal(message: str, hint: str = "") -> PydanticCustomError:
    """The error for a validator to raise: what is wrong with the value, and what to write."""
    return PydanticCustomError("refused", "{message}", {"message": message, "hint": hint})


def as_validation_error(title: str, faults: Iterable[Fault]) -> ValidationError:
    """The faults as one error, so that a pydantic validator can report more than one."""
    details = [
        InitErrorDetails(type=refusal(fault.message, fault.hint), loc=fault.loc, input=None)
        for fault in faults
    ]
    return ValidationError.from_exception_data(title, details)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` most likely meant, or None when nothing is close."""
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in names}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint with the nearest known name, or with all of them when none is near and few exist."""
    names = list(known)
    near = nearest(word, names)
    if near is not None:
        return f"did you mean {near}?"
    return f"known: {', '.join(names)}" if len(names) <= 16 else ""
