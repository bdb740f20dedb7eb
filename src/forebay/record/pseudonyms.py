"""Names that tell equal from unequal, and nothing else.

A block of a prompt and the key of a tenant are named by HMAC-SHA256 under a secret that is drawn
for one recording, held in memory and never written. Within the recording equal things have equal
names; between two recordings nothing can be compared; and without the secret no guess at a prompt
or a key can be checked against the file, which a plain hash would allow.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

import numpy as np

_BLOCK_DIGITS = 16  # 64 bits: of 10 million blocks two share a name in one of 300,000 traces
_TENANT_DIGITS = 12


class Pseudonyms:
    """The names of one recording."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes | None = None) -> None:
        """Draws a secret, if none is given."""
        self._secret = secret or secrets.token_bytes(32)

    def __repr__(self) -> str:
        return "<Pseudonyms>"

    def tenant(self, key: bytes) -> str:
        """The name of whoever holds this key."""
        return f"t-{self._keyed(b'tenant', key).hexdigest()[:_TENANT_DIGITS]}"

    def blocks(self, text: bytes, block_bytes: int) -> tuple[str, ...]:
        """Names of the whole blocks of a text, each for everything up to its end."""
        return self._chain(b"text", text, block_bytes)

    def id_blocks(self, ids: Sequence[int], block_tokens: int) -> tuple[str, ...]:
        """The same for token ids.

        Raises:
            OverflowError: an id is below 0 or has more than 32 bits.
        """
        return self._chain(b"ids", np.array(ids, dtype=np.uint32).tobytes(), 4 * block_tokens)

    def _chain(self, domain: bytes, data: bytes, block_bytes: int) -> tuple[str, ...]:
        running = self._keyed(domain, b"")
        view, names = memoryview(data), []
        for end in range(block_bytes, len(data) + 1, block_bytes):
            running.update(view[end - block_bytes : end])
            names.append(running.copy().hexdigest()[:_BLOCK_DIGITS])
        return tuple(names)

    def _keyed(self, domain: bytes, data: bytes) -> hmac.HMAC:
        """An HMAC over the domain, so that a key and a text of the same bytes differ, and data."""
        return hmac.new(self._secret, domain + b"\0" + data, hashlib.sha256)
