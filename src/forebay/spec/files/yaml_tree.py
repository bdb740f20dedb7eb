"""A YAML document with the place of every key and value, so that a refusal can name the line.

Reads plain data only; nothing in a file can construct an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.resolver import Resolver

from forebay.spec.files.problems import Problem, SpecError

Place = tuple[int, int]  # line and column, both from 1
Path = tuple[str, ...]

# Aliases of aliases can stand for billions of values in a file of a kilobyte.
_MOST_VALUES = 100_000

# What PyYAML lets through from a value that is not what its tag says.
_STUMBLES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

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


def parse(text: str, file: str, most: int = _MOST_VALUES) -> Tree:
    """The document in `text`, of so many keys and values at most.

    Raises:
        SpecError: not YAML, more than one document, empty, or with a key given twice.
    """
    try:
        node = compose(text)
        if node is None:
            hint = "forebay init writes a starter file"
            raise SpecError([Problem(file, 1, 1, "", "the file is empty", hint)])
        places = _Places(file, most)
        places.walk(node, ())
        if places.problems:
            raise SpecError(places.problems)
        return Tree(_Values().construct_document(node), places.keys, places.values)
    except yaml.YAMLError as error:
        raise SpecError([_syntax_problem(error, file)]) from None
    except RecursionError:
        raise SpecError([Problem(file, 1, 1, "", "nested too deeply to read")]) from None


def compose(text: str) -> yaml.Node | None:
    """The document's nodes; None when it is empty.

    By libyaml where PyYAML has it: several times as fast, and a service that runs reads its
    tenants again. What libyaml refuses PyYAML reads once more, for its own words.

    Raises:
        YAMLError: not YAML, or more than one document.
        RecursionError: nested too deeply.
    """
    if yaml.__with_libyaml__:
        try:
            return _Nodes(yaml.CSafeLoader(text)).get_single_node()
        except (yaml.YAMLError, ValueError):
            pass
    loader = yaml.SafeLoader(text)
    try:
        return loader.get_single_node()
    except (OverflowError, ValueError) as error:  # an escape beyond the last character
        problem = yaml.MarkedYAMLError(problem=str(error), problem_mark=loader.get_mark())
        raise problem from None


class _Nodes(Composer, Resolver):
    """PyYAML's composer in Python on libyaml's parser: that in C crashes on very deep nesting."""

    def __init__(self, parser: yaml.CSafeLoader) -> None:
        Composer.__init__(self)
        Resolver.__init__(self)
        self.check_event = parser.check_event
        self.peek_event = parser.peek_event
        self.get_event = parser.get_event


class _Values(SafeConstructor):
    """Makes plain data of nodes, and says where one stands that is not what its tag says."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The node's value.

        Raises:
            ConstructorError: it has none.
        """
        try:
            return super().construct_object(node, deep)
        except _STUMBLES as error:
            said = f"cannot be read as {node.tag.rpartition(':')[2]}"
            if isinstance(error, ValueError):  # the others' words are about Python
                said = f"{said}: {error}"
            raise ConstructorError(None, None, said, node.start_mark) from None


class _Places:
    """Walks the nodes once, noting places and keys given twice."""

    def __init__(self, file: str, most: int) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._most = most
        self._open: list[yaml.Node] = []

    def walk(self, node: yaml.Node, path: Path) -> None:
        self.values[path] = _place(node)
        if len(self.values) > self._most:
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
