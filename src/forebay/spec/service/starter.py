"""The commented file that `forebay init` writes: every field, its description and its default."""

import textwrap
from collections.abc import Iterator

import yaml

from forebay.spec.service.fields import FieldDoc, field_docs

_HEAD = """\
# A service of Forebay. Check it with:   forebay check {file}
# and start it with:                     forebay serve {file}
#
# Every field stands here with its default; a line such as "# deadline: 60s" is not set, and shows
# an example. Durations and sizes carry their unit (1s, 250ms, 1h30m, 8MiB, 4GB).
"""
_WIDTH = 96


def starter_text(file: str = "forebay.yaml") -> str:
    """A service file that loads as it is and serves the demo model on CPU."""
    return "\n".join([_HEAD.format(file=file), *_lines()]) + "\n"


def _lines() -> Iterator[str]:
    described: set[str] = set()
    for doc in field_docs():
        indent = "  " * (len(doc.path) - 1)
        if len(doc.path) == 1 and described:
            yield ""
        if doc.description not in described:
            described.add(doc.description)
            yield from _comment(doc.description, indent)
        yield indent + _setting(doc)


def _comment(text: str, indent: str) -> list[str]:
    mark = f"{indent}# "
    return textwrap.wrap(
        text,
        width=_WIDTH,
        initial_indent=mark,
        subsequent_indent=mark,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _setting(doc: FieldDoc) -> str:
    key = doc.path[-1]
    if doc.section is not None:
        return f"{key}:"
    if doc.default is None or doc.default == []:
        return f"# {key}: {as_yaml(doc.example)}"
    return f"{key}: {as_yaml(doc.example if doc.default == {} else doc.default)}"


def as_yaml(value: object) -> str:
    """The value on one line, as a person would write it: 8 for 8.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")
