"""Which prompts in the engine begin alike: what its KV blocks hold once, however many run with it.

With prefix caching, vLLM gives sequences whose prompts begin alike the same blocks. So a system
prompt of 6,000 tokens is held once, and each request that runs with it takes what is its own.
Counted for each, a dozen of them would look like a full cache (docs/admission.md).

Prompts are compared in chunks, by a chain of hashes: equal hashes mean equal prompts up to there,
under one cache salt. Everything that affects who shares what lives here: the chunks, who holds
them, and what is expected of prompts that nobody has tokenized yet.

What is not seen: prompts that begin alike and are computed side by side have some blocks each;
a preempted sequence holds none; the tail of a shared beginning that fills no chunk is shared too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from forebay.policies.fading import DecayedRate

CHUNK = 256  # tokens: 16 of vLLM's blocks, so that a prompt of 6,000 tokens takes 23 hashes
_FADES = 500_000.0  # promised tokens, after which half of what was learned has faded

Chunks = tuple[int, ...]


def prompt_chunks(tokens: Sequence[int], seed: Hashable) -> Chunks:
    """Hashes of a prompt's whole chunks, each of all up to its end; none for a short prompt.

    Args:
        tokens: the prompt. Its last token is always computed, and so in no chunk.
        seed: prompts of different seeds share nothing.
    """
    last = len(tokens) - 1
    if last < CHUNK:
        return ()
    link, chain = hash(seed), []
    for end in range(CHUNK, last + 1, CHUNK):
        link = hash((link, *tokens[end - CHUNK : end]))
        chain.append(link)
    return tuple(chain)


class SharedPrefixes:
    """Counts, for each chunk, the sequences in the engine that hold it."""

    def __init__(self) -> None:
        """Nobody holds anything, and nothing is expected to be shared."""
        self._holders: Counter[int] = Counter()
        self._share = DecayedRate(_FADES)  # of promised tokens, of those that others held

    @property
    def tokens(self) -> int:
        """Tokens of the distinct chunks that are held."""
        return CHUNK * len(self._holders)

    def hold(self, chunks: Chunks) -> None:
        """One more sequence in the engine has these."""
        self._holders.update(chunks)

    def let_go(self, chunks: Chunks) -> None:
        """A sequence that had these has ended."""
        for chunk in chunks:
            self._holders[chunk] -= 1
            if not self._holders[chunk]:
                del self._holders[chunk]

    def held(self, chunks: Chunks, least: int = 1) -> int:
        """Tokens of their leading chunks that at least so many sequences hold.

        Whoever holds a chunk holds those before it, so the last of them is found by halving.
        """
        low, high = 0, len(chunks)
        while low < high:
            middle = (low + high) // 2
            if self._holders.get(chunks[middle], 0) >= least:
                low = middle + 1
            else:
                high = middle
        return CHUNK * low

    def alone(self, chunks: Chunks) -> int:
        """Tokens of the chunks of one that holds them which nobody else does."""
        return CHUNK * len(chunks) - self.held(chunks, 2) if chunks else 0

    # --- before a prompt is tokenized -----------------------------------------------------

    def entered(self, promised: int, held: int) -> None:
        """Of a prompt with so many tokens promised to be cached, others held so many."""
        if promised:
            self._share.add(min(held, promised), promised)

    def expected(self, promised: int) -> int:
        """Tokens that others hold of a prompt with so many promised to be cached."""
        return int(self._share.rate * promised)

    def check_integrity(self, held: Iterable[Chunks]) -> None:
        """Raise AssertionError unless these are the chunks of the sequences in the engine."""
        assert self._holders == Counter(chunk for chunks in held for chunk in chunks)
        assert 0.0 <= self._share.rate <= 1.0
