"""The tokens that segments stand for: ids for the completions API, words for chat.

What a segment holds follows from its name and the run's salt alone, so every worker makes the same
shared prefixes without talking to the others, and a run with another salt shares nothing with an
earlier one: measuring with repeated prompts measures the prefix cache.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from forebay.workload import Segment

# Ids that nearly every vocabulary has: above single bytes and special tokens, below 1,500.
DEFAULT_IDS: Sequence[int] = range(300, 1500)
_MOST_KEPT = 4_000_000  # tokens of shared segments kept ready, about 30 MB


class Content:
    """Draws from a vocabulary of byte strings, joined by `glue`; keeps what is shared."""

    def __init__(self, salt: str, vocabulary: Sequence[bytes], glue: bytes) -> None:
        """Takes what one token each is written as.

        Raises:
            ValueError: fewer than two tokens to choose from.
        """
        if len(vocabulary) < 2:
            raise ValueError(f"prompts are made of 2 tokens or more, not {len(vocabulary)}")
        self._salt = salt
        self._vocabulary = list(vocabulary)
        self._glue = glue
        self._kept: dict[tuple[str, int], bytes] = {}
        self._kept_tokens = 0

    def write(self, segment: Segment) -> bytes:
        """The segment's tokens, joined."""
        if not segment.shared:
            return self._made(segment)
        key = (segment.name, segment.tokens)
        found = self._kept.get(key)
        if found is None:
            if self._kept_tokens + segment.tokens > _MOST_KEPT:
                self._kept.clear()
                self._kept_tokens = 0
            found = self._kept[key] = self._made(segment)
            self._kept_tokens += segment.tokens
        return found

    def join(self, segments: Sequence[Segment]) -> bytes:
        """Several segments, one after the other."""
        return self._glue.join([self.write(segment) for segment in segments])

    def _made(self, segment: Segment) -> bytes:
        vocabulary = self._vocabulary
        chosen = self._draw(segment).tolist()
        return self._glue.join([vocabulary[index] for index in chosen])

    def _draw(self, segment: Segment) -> NDArray[np.int64]:
        """Indices into the vocabulary: an endless sequence by name, cut to the length."""
        digest = hashlib.blake2b(f"{self._salt}/{segment.name}".encode(), digest_size=16).digest()
        source = np.random.Philox(key=int.from_bytes(digest, "little"))
        return np.random.Generator(source).integers(0, len(self._vocabulary), segment.tokens)


def id_content(salt: str, ids: Sequence[int] = DEFAULT_IDS) -> Content:
    """Token ids, as the completions API takes them: exact lengths without a tokenizer."""
    return Content(salt, [b"%d" % number for number in ids], b",")


def word_content(salt: str, words: Sequence[str]) -> Content:
    """Words of one token each, a space before all but the first."""
    return Content(salt, [word.encode() for word in words], b" ")


def letter_content(salt: str, bytes_per_token: float) -> Content:
    """Made-up words that take `bytes_per_token` bytes each, their space included.

    Raises:
        ValueError: less than 2 bytes, which leaves no letter.
    """
    if not bytes_per_token >= 2:
        raise ValueError(f"a token of text takes 2 bytes or more, not {bytes_per_token:g}")
    rng = np.random.default_rng(0)
    sizes = np.diff(np.floor(np.arange(1001) * bytes_per_token)).astype(int) - 1
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", dtype=np.uint8)
    words = [rng.choice(letters, size).tobytes() for size in sizes]
    return Content(salt, words, b" ")


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


# Short, frequent and made of a-z: nearly every vocabulary has most of them as one token each, and
# which of them the target has is asked before they are used.
_WORDS = (
    "the of and to in is that for it as with was on be by this are from at or have an not "
    "which had but one all were when we there can more if no man out other so what up time "
    "into them only new some could these two may then do first any my now such like our over "
    "me even most made after also did many before must through back years where much your way "
    "well down should because each just those people how too little state good very make "
    "world still see own work men day get here between long being under never same another "
    "know while last might us great old year off come since against go came right used take "
    "three states himself few house use during without again place american around however "
    "home small found thought went say part once general high upon school every until does "
    "got united left number course war public always put away fact though water less head "
    "power far think set given almost life later "
)
COMMON_WORDS: Sequence[str] = tuple(_WORDS.split())
