"""Text from outside as HTML: tables, lists of facts, escaped text."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from forebay.report.words import plain

_LONGEST_NAME = 120
_PROSE = ' class="prose"'


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: what it says.
        note: a smaller line under it.
        prose: words rather than a number: they align to the left and wrap.
    """

    text: str
    note: str = ""
    prose: bool = False


def text(value: object, most: int = 0) -> str:
    """`words.plain` text, escaped for an element or an attribute."""
    return html.escape(plain(value, most))


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Cell]]],
    total: tuple[str, Sequence[Cell]] | None = None,
) -> str:
    """A table whose rows are (name, cells); ``heads`` begins with that of the names.

    Raises:
        ValueError: when a row has more or fewer cells than there are heads for them.
    """
    prose = [False, *(cell.prose for cell in rows[0][1])] if rows else [False] * len(heads)
    head = "".join(_head(name, wide) for name, wide in zip(heads, prose, strict=True))
    body = "".join(_row(heads, name, cells) for name, cells in rows)
    foot = f"<tfoot>{_row(heads, *total)}</tfoot>" if total else ""
    return (
        f'<div class="table"><table><caption>{text(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>{foot}</table></div>"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """The entries of a description list."""
    return "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in pairs
    )


def _head(name: str, prose: bool) -> str:
    return f'<th scope="col"{_PROSE if prose else ""}>{text(name)}</th>'


def _row(heads: Sequence[str], name: str, cells: Sequence[Cell]) -> str:
    columns = zip(heads[1:], cells, strict=True)
    data = "".join(_cell(head, cell) for head, cell in columns)
    return f'<tr><th scope="row">{text(name, _LONGEST_NAME)}</th>{data}</tr>'


def _cell(head: str, cell: Cell) -> str:
    said = text(cell.text) + (f"<small>{text(cell.note)}</small>" if cell.note else "")
    kind = _PROSE if cell.prose else ""
    return f'<td data-label="{text(head)}"{kind}><span>{said}</span></td>'
