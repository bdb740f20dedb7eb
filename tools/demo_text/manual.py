"""Questions about Python, answered with the prose of its documentation.

Reads the Info format (package ``python3-doc``): sections are marked off by a control
character, so titles and paragraphs come apart without a parser for markup.
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator
from pathlib import Path

from demo_text.conversation import Conversation

SECTION = ["Tell me about {t}.", "Explain {t} in Python.", "Python: {t}", "What about {t}?"]
INFO_NODE = re.compile(r"\x1f\nFile: [^\n]*\n\n")
INFO_MARKUP = re.compile(r"\*note ([^:]*?): [0-9a-f]+\.|\(\d+\)")


def doc_conversations(info: Path, rng: random.Random) -> Iterator[Conversation]:
    """One conversation per section that has prose enough to make an answer."""
    text = gzip.decompress(info.read_bytes()).decode("utf-8", errors="replace")
    for node in INFO_NODE.split(text)[1:]:
        heading, _, body = node.partition("\n")
        title = re.sub(r"^[\d.]+ ", "", heading).strip()
        prose = [_unwrap(block) for block in body.split("\n\n") if _is_prose(block)]
        answer = "\n\n".join(prose)[:1200].rpartition(".")[0]
        if len(answer) > 80 and "?" not in title[:-1]:
            question = title if title.endswith("?") else rng.choice(SECTION).format(t=title)
            yield Conversation((("user", question), ("assistant", answer + ".")), title)


def _is_prose(block: str) -> bool:
    """True for plain paragraphs: not code, lists, menus or underlines."""
    lines = block.strip("\n").splitlines()
    text = _unwrap(block)
    letters = sum(char.isalpha() or char == " " for char in text)
    return (
        len(lines) > 1
        and not any(line.startswith((" ", "*", "-", "=", ".", "@")) for line in lines)
        and text.endswith((".", ":"))
        and letters > 0.9 * len(text)
    )


def _unwrap(block: str) -> str:
    text = " ".join(line.strip() for line in block.split("\n"))
    return re.sub(r"\s+", " ", INFO_MARKUP.sub(lambda m: m.group(1) or "", text)).strip()


def find_info(root: Path) -> Path:
    """The Python manual in Info format; its name carries the Python version."""
    found = sorted((root / "usr/share/info").glob("python3*.info.gz"))
    if not found:
        raise FileNotFoundError(f"no python3*.info.gz below {root}: install python3-doc")
    return found[-1]
