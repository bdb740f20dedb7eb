"""The few rules of English that the templates need."""

from __future__ import annotations

MASS_ENDINGS = ("s", "ness", "ity", "ism", "ing", "ship", "ology", "ence", "ance")


def with_article(word: str) -> str:
    if word[0].isupper() or word.endswith(MASS_ENDINGS):
        return word
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def listing(items: list[str], last: str) -> str:
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
