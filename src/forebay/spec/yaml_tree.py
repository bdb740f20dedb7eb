"""A YAML document with the place of every key and value, so that a refusal can name the line.

Reads with PyYAML's safe loader only; nothing in a file can construct an object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml

from forebay.spec.problems import Problem, SpecError

Place = tuple[int, int]  # line and column, both from 1
Path = tuple[str, ...]

# Aliases of aliases can stand for billions of values in a file of a kilobyte.
_MOST_VALUES = 100_000

_TEXT_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


@dataclass(frozen=True)
class Tree:
    """A parsed document: its plain data, and where each key and value stands."""

    data: Any
    keys: dict[Path, Place]
    values: dict[Path, Place]

    def place_of_value(self, path: Path) -> Place:
        """Where the value at `path` stands; its nearest parent's place when it is absent."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))

    def place_of_key(self, path: Path) -> Place:
        """Where the key at `path` stands; its nearest parent's place when it is absent."""
        return self.keys.get(path) or self.place_of_value(path)


def parse(text: str, file: str) -> Tree:
    """The document in `text`.

    Raises:
        SpecError: not YAML, more than one document, empty, or with a key given twice.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            hint = "forebay init writes a starter file"
            raise SpecError([Problem(file, 1, 1, "", "the file is empty", hint)])
        places = _Places(file)
        places.walk(node, ())
        if places.problems:
            raise SpecError(places.problems)
        return Tree(loader.construct_document(node), places.keys, places.values)
    except yaml.YAMLError as error:
        raise SpecError([_syntax_problem(error, file)]) from None
    except RecursionError:
        raise SpecError([Problem(file, 1, 1, "", "nested too deeply to read")]) from None
    except ValueError as error:
        if isinstance(error, SpecError):
            raise
        # An impossible date, or a number with more digits than Python converts.
        raise SpecError([Problem(file, 1, 1, "", f"a value cannot be read: {error}")]) from None


class _Places:
    """Walks the nodes once, noting places and keys given twice."""

    def __init__(self, file: str) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._open: list[yaml.Node] = []

    def walk(self, node: yaml.Node, path: Path) -> None:
        self.values[path] = _place(node)
        if len(self.values) > _MOST_VALUES:
            raise SpecError([Problem(self._file, *_place(node), "", "holds too many values")])
        if any(node is outer for outer in self._open):
            where = _place(node)
            self.problems.append(Problem(self._file, *where, ".".join(path), "contains itself"))
            return
        self._open.append(node)
        for name, key, value in _children(node):
            inner = (*path, name)
            if key is not None:
                self._note_key(key, inner)
            self.walk(value, inner)
        self._open.pop()

    def _note_key(self, key: yaml.Node, path: Path) -> None:
        if key.tag not in _TEXT_TAGS:
            message, hint = "this key does not read as text", "put it in quotes"
            self.problems.append(Problem(self._file, *_place(key), ".".join(path), message, hint))
        if path in self.keys and path[-1] != "<<":
            first = self.keys[path][0]
            message = f"given twice, first in line {first}"
            self.problems.append(
                Problem(self._file, *_place(key), ".".join(path), message, "keep one of the two")
            )
        self.keys.setdefault(path, _place(key))


def _children(node: yaml.Node) -> Iterator[tuple[str, yaml.Node | None, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            yield str(key.value) if isinstance(key, yaml.ScalarNode) else "?", key, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(cast("list[yaml.Node]", node.value)):
            yield str(index), None, value


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _syntax_problem(error: yaml.YAMLError, file: str) -> Problem:
    """PyYAML's own words, at the place where it stopped."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return Problem(file, line, column, "", f"not YAML: {said}")
    return Problem(file, 1, 1, "", f"not YAML: {str(error).splitlines()[0]}")
