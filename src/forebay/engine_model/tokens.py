"""Names of KV blocks and the tokens of made-up answers.

Both are plain integers from Python's hash of tuples of integers, which is the same in every process
(only text is hashed with a secret), so replicas, clients and simulations agree on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

_BITS = 64
_STRIDE = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: its multiples spread evenly (Weyl)
ANY_TOKENS: Sequence[int] = range(256, 4096)  # ids that every vocabulary has, clear of control ids


def first_parent(salt: str | None) -> int:
    """What the first block's name is chained to: prompts of different salts share no block."""
    if salt is None:
        return 0
    return int.from_bytes(blake2b(salt.encode(), digest_size=8).digest())


def block_name(parent: int, tokens: tuple[int, ...]) -> int:
    """Name of a full block: of its tokens and, through `parent`, of all that come before."""
    return hash((parent, tokens))


def answer_tokens(
    prompt: Sequence[int], count: int, vocabulary: Sequence[int] = ANY_TOKENS
) -> list[int]:
    """Token ids of an answer to `prompt`, drawn from `vocabulary` without any chance.

    The same prompt gets the same answer everywhere, and a longer answer begins like a shorter one.
    So a conversation that echoes an answer finds its blocks in the cache.
    """
    seed, kinds = hash(tuple(prompt)), len(vocabulary)
    return [
        vocabulary[((seed + _STRIDE * place) % 2**_BITS >> 32) % kinds]
        for place in range(1, count + 1)
    ]
