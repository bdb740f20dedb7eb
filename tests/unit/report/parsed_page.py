"""A page as its reader meets it: its text, its tables, its charts."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br", "hr", "img", "link", "input"}


@dataclass
class Table:
    """A table's caption, heads and rows of cell texts."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)

    @property
    def heads(self) -> list[str]:
        return self.rows[0]

    def row(self, name: str) -> dict[str, str]:
        """The row of a name, by head."""
        cells = next(row for row in self.rows[1:] if row[0] == name)
        return dict(zip(self.heads, cells, strict=True))

    def column(self, head: str) -> list[str]:
        place = self.heads.index(head)
        return [row[place] for row in self.rows[1:]]


class Page(HTMLParser):
    """Fails on a tag closed out of order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: list[Table] = []
        self.feed(page)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        """All that is read, without the style sheet."""
        return " ".join("".join(self.texts).split())

    @property
    def charts(self) -> dict[str, str]:
        """Description by name, of those for a wide page."""
        labels = [
            str(attributes["aria-label"]).split(". ", 1)
            for tag, attributes in self.tags
            if tag == "svg" and "narrow" not in str(attributes.get("class"))
            if attributes.get("role") == "img"
        ]
        return dict(labels)

    def table(self, caption: str) -> Table:
        """The table whose caption begins so."""
        return next(table for table in self.tables if table.caption.startswith(caption))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self.tables[-1].rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.texts.append(data)
        if "caption" in self.open:
            self.tables[-1].caption += data
        elif "td" in self.open or "th" in self.open:
            self.tables[-1].rows[-1][-1] += data
