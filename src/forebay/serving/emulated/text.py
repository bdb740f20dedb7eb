"""The emulated engine's tokens: words, as far as they are short.

A token is a word of up to 8 bytes with the space before it; longer words are several. That is about
as many bytes as a real vocabulary's tokens have, needs no vocabulary, and is exact: the text of an
answer, sent back as part of the next prompt, becomes the same tokens again. The id of a token is
the number that its bytes are.
"""

from __future__ import annotations

import re
from typing import Any

LONGEST_BYTES = 9
_PIECES = re.compile(rb" ?[^\s]{1,8}|\s")
_ROLES = {"system": b"<sys>", "user": b"<user>", "assistant": b"<bot>", "tool": b"<tool>"}
_END = int.from_bytes(b"<end>")
_BOT = int.from_bytes(_ROLES["assistant"])

# What answers are made of. Each is one token where it stands.
WORDS = tuple(
    b" " + first.encode() + second.encode()
    for first in ("ba", "co", "di", "fe", "gu", "ha", "ko", "li", "mo", "nu", "pe", "ra", "so")
    for second in ("", "n", "r", "st", "l", "m", "ck", "nd", "ve", "ng")
)
VOCABULARY = tuple(int.from_bytes(word) for word in WORDS)


def encode(text: str) -> list[int]:
    """Token ids of a text."""
    pieces = _PIECES.findall(text.encode("utf-8", "surrogatepass"))
    return [int.from_bytes(piece) for piece in pieces]


def decode(ids: list[int]) -> str:
    """The text of token ids that `encode` made; any other id stands for itself in brackets."""
    return "".join(map(piece, ids))


def piece(token: int) -> str:
    """The text of one token."""
    size = (token.bit_length() + 7) // 8
    try:
        return token.to_bytes(size).decode() if 0 < size <= LONGEST_BYTES else f" [{token}]"
    except UnicodeDecodeError:
        return f" [{token}]"


def render(messages: list[Any], tools: Any = None) -> list[int]:
    """Token ids of a conversation: the tools, then each message between marks of its own.

    Each content is cut by itself, so that an answer of this engine becomes the tokens that it was.
    """
    ids = encode(str(tools)) if tools else []
    for message in messages:
        ids.append(int.from_bytes(_ROLES.get(str(message.get("role")), b"<else>")))
        ids += encode(content_text(message.get("content")))
        ids.append(_END)
    ids.append(_BOT)
    return ids


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
