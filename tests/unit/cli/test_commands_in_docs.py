"""The commands that README and docs show exist, with the options that they are given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from forebay.cli.main import app

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def shown(page: Path) -> Iterator[list[str]]:
    """The words after each `forebay` in a page's shell blocks."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(re.sub(r"[$()|;]", " ", line), comments=True)
            words = [Path(word).name if word.endswith("/forebay") else word for word in words]
            for at, word in enumerate(words):
                if word == "forebay" and words[at + 1 : at + 2] and words[0] != "git":
                    yield words[at + 1 :]


def unknown(words: list[str]) -> list[str]:
    """The command, if there is none of that name, or else the options that it does not have."""
    command: Any = get_command(app)
    while hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return words[:1]
        command, words = command.commands[words[0]], [*words[1:], "-"]
    named = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return [w for w in words if w.startswith("-") and w != "-" and w not in named | {"--help"}]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_can_be_typed(page: Path) -> None:
    assert {" ".join(words): unknown(words) for words in shown(page) if unknown(words)} == {}


def test_commands_are_found_and_judged() -> None:
    found = [words for page in PAGES for words in shown(page)]
    assert {words[0] for words in found} >= {"serve", "check", "load", "record", "mock", "keys"}
    assert unknown(["load", "URL", "--rates", "5/s"]) == ["--rates"]
    assert unknown(["record", "prxy"]) == ["prxy"]
