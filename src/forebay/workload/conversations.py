"""Lengths of recorded conversations, for `kinds.Kind.recorded`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Pairs = tuple[tuple[int, int], ...]

_ASKS = ("human", "user")
_ANSWERS = ("gpt", "assistant", "chatgpt", "bing", "bard")


def sharegpt_lengths(data: Any, count_tokens: Callable[[str], int]) -> tuple[Pairs, ...]:
    """(prompt, output) tokens of each turn of each conversation; texts are counted, not kept.

    Args:
        data: a decoded ShareGPT file: a list of objects whose ``conversations`` (or ``messages``)
            alternate between a person and a model.
        count_tokens: tokens of a text.

    Raises:
        ValueError: it is not such a list, or no conversation holds a question with an answer.
    """
    if not isinstance(data, list):
        raise ValueError("a ShareGPT file is a list of conversations")
    found = [pairs for entry in data if (pairs := _pairs(_messages(entry), count_tokens))]
    if not found:
        raise ValueError("no conversation holds a question with an answer")
    return tuple(found)


def _messages(entry: Any) -> Sequence[tuple[str, str]]:
    """(who, text) of each; what is no message is left out."""
    fields = entry if isinstance(entry, dict) else {}
    said = fields.get("conversations") or fields.get("messages")
    messages = []
    for message in said if isinstance(said, list) else ():
        if isinstance(message, dict):
            who = str(message.get("from") or message.get("role") or "")
            messages.append((who, str(message.get("value") or message.get("content") or "")))
    return messages


def _pairs(messages: Sequence[tuple[str, str]], count_tokens: Callable[[str], int]) -> Pairs:
    """A question is what stands before an answer; a system prompt counts into the first."""
    pairs, asked = [], 0
    for who, text in messages:
        if who in _ANSWERS and asked:
            pairs.append((asked, max(1, count_tokens(text))))
            asked = 0
        elif who in _ASKS or who == "system":
            asked += count_tokens(text)
    return tuple(pairs)
