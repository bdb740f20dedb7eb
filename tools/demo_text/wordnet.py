"""Reads WordNet's database files (package ``wordnet-base``).

The format is described in WordNet's manual pages wndb(5) and wninput(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from demo_text.conversation import in_held_out

POS_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}

# Senses that WordNet itself marks as slurs or that a demo should not recite.
UNWELCOME = re.compile(
    r"offensive|disparag|derogat|slur\b|obscen|vulgar|taboo|sexual|intercourse|genital"
    r"|penis|vagina|prostitut|excrement|faeces|feces|rape\b|nazi|masturbat|suicide",
    re.IGNORECASE,
)


@dataclass
class Sense:
    """One WordNet synset."""

    key: str
    pos: str
    words: list[str]
    gloss: str
    examples: list[str]
    pointers: list[tuple[str, str]] = field(default_factory=list)
    """(relation symbol, key of the other synset)"""


@dataclass(frozen=True)
class WordNet:
    """The senses, and for each lemma its senses from most to least common."""

    senses: dict[str, Sense]
    ranked: dict[tuple[str, str], list[str]]
    common: frozenset[tuple[str, str]]
    """Lemmas that occur in WordNet's tagged texts."""

    def related(self, sense: Sense, relation: str) -> list[Sense]:
        """The senses it points to that stand on its side of the held-out split."""
        keys = [key for symbol, key in sense.pointers if symbol == relation]
        return [
            self.senses[key]
            for key in keys
            if key in self.senses and in_held_out(key) == in_held_out(sense.key)
        ]


def read_wordnet(folder: Path) -> WordNet:
    senses: dict[str, Sense] = {}
    ranked: dict[tuple[str, str], list[str]] = {}
    common: set[tuple[str, str]] = set()
    for pos, name in POS_FILES.items():
        for line in _records(folder / f"data.{name}"):
            sense = _parse_sense(pos, line)
            if not UNWELCOME.search(" ".join([sense.gloss, *sense.words, *sense.examples])):
                senses[sense.key] = sense
        for line in _records(folder / f"index.{name}"):
            lemma, offsets, tagged = _parse_index(line)
            ranked[pos, lemma] = [pos + offset for offset in offsets]
            if tagged:
                common.add((pos, lemma))
    return WordNet(senses, ranked, frozenset(common))


def _records(path: Path) -> Iterator[str]:
    """The file's lines, less the licence that heads it (indented by two spaces)."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        yield from (line for line in lines if not line.startswith("  "))


def _parse_sense(pos: str, line: str) -> Sense:
    data, _, text = line.partition("|")
    fields = data.split()
    word_count = int(fields[3], 16)
    words = [_clean_word(word) for word in fields[4 : 4 + 2 * word_count : 2]]
    first = 5 + 2 * word_count
    pointers = [
        (fields[at], fields[at + 2].replace("s", "a") + fields[at + 1])
        for at in range(first, first + 4 * int(fields[first - 1]), 4)
    ]
    examples = [example.strip() for example in re.findall(r'"([^"]+)"', text)]
    gloss = re.sub(r"^ *\([^)]*\)", "", text.split('"', maxsplit=1)[0]).strip(" ;:\n")
    return Sense(pos + fields[0], pos, words, gloss, examples, pointers)


def _clean_word(word: str) -> str:
    return re.sub(r"\(\w+\)$", "", word).replace("_", " ")


def _parse_index(line: str) -> tuple[str, list[str], int]:
    fields = line.split()
    sense_count = int(fields[2])
    return fields[0].replace("_", " "), fields[-sense_count:], int(fields[-sense_count - 1])
