"""Prompts of an exact length that no earlier prompt shares a prefix with.

Measuring with repeated prompts measures the prefix cache. The completions API takes token ids as
a prompt, so random ids give an exact length without any tokenizer here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Ids that nearly every vocabulary has: above single bytes and special tokens, below 1,500.
DEFAULT_IDS: Sequence[int] = range(300, 1500)
DEFAULT_BYTES_PER_TOKEN = 4.0
_SERIAL_IDS = 3  # 1,200 ** 3 prompts
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class PromptMaker:
    """Makes prompts, each beginning with its own serial number, then random.

    The serial stands first: two prompts of one maker differ within their first block, so they
    share no cached prefix. Makers of different seeds differ in the random rest.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        ids: Sequence[int] = DEFAULT_IDS,
        bytes_per_token: float = DEFAULT_BYTES_PER_TOKEN,
    ) -> None:
        """Draws token ids from ``ids``; `text` takes ``bytes_per_token`` for its length.

        Raises:
            ValueError: when there are fewer than 2 ids, or the ratio is below 1.
        """
        if len(ids) < 2 or bytes_per_token < 1:
            raise ValueError(f"unusable: {len(ids)} ids, {bytes_per_token} bytes per token")
        self._rng = rng
        self._ids = np.asarray(ids)
        self._bytes_per_token = bytes_per_token
        self._made = 0

    def tokens(self, length: int) -> list[int]:
        """A prompt of exactly ``length`` token ids, for the completions API.

        Raises:
            ValueError: when ``length`` is below 1, or too short to stay unlike earlier ones.
        """
        chosen = self._rng.integers(0, len(self._ids), max(0, length))
        number = self._made
        for position in range(min(length, _SERIAL_IDS)):
            number, chosen[position] = divmod(number, len(self._ids))
        if length < 1 or number:
            raise ValueError(f"no unused prompt of {length} tokens is left")
        self._made += 1
        prompt: list[int] = self._ids[chosen].tolist()
        return prompt

    def text(self, length: int) -> str:
        """Words of about ``length`` tokens by the bytes-per-token ratio, for chat.

        Raises:
            ValueError: when ``length`` is below 1.
        """
        if length < 1:
            raise ValueError(f"a prompt needs at least 1 token, not {length}")
        self._made += 1
        size = round(length * self._bytes_per_token)
        letters = [_LETTERS[code] for code in self._rng.integers(0, len(_LETTERS), size)]
        letters[5::6] = " " * len(letters[5::6])
        return f"{self._made} {''.join(letters)}"[: max(size, len(str(self._made)))]


def plain_ids(tokenizer: Path) -> list[int]:
    """Every id of a ``tokenizer.json`` that is not a special token, ascending.

    Raises:
        ValueError: when the file is not one.
        OSError: when it cannot be read.
    """
    try:
        content = json.loads(tokenizer.read_text("utf-8"))
        special = {token["id"] for token in content.get("added_tokens", [])}
        return sorted(set(content["model"]["vocab"].values()) - special)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{tokenizer} is not a tokenizer.json: {error!r}") from error
