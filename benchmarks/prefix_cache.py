"""What a prefix cache of a known size can hit, from the order of arrival alone.

vLLM keeps whole blocks of tokens, each known by its content and all before it. A prompt hits its
leading blocks as long as each is there, but never its last token, which must be computed. Blocks
that nobody uses are taken for new ones in the order in which they were let go, the end of a prompt
before its beginning (vllm/v1/core/kv_cache_manager.py, 0.29). Here each request is over before the
next arrives, and blocks in use are not told from others: what overlap changes, the comparison with
the engine shows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from forebay.workload import Row


class PrefixCache:
    """Blocks by what they hold, the one to be taken next first."""

    def __init__(self, blocks: int, block_tokens: int) -> None:
        """Takes how many blocks the engine has, and of how many tokens each is."""
        self._most = blocks
        self._size = block_tokens
        self._held: OrderedDict[Hashable, None] = OrderedDict()
        self._asked = 0

    def ask(self, prompt: Sequence[Hashable], prompt_tokens: int, output_tokens: int) -> int:
        """Tokens of a prompt that are found; afterwards it and its answer are held.

        Args:
            prompt: name of each whole block of the prompt.
            prompt_tokens: its length.
            output_tokens: length of its answer.
        """
        usable = (prompt_tokens - 1) // self._size
        hits = 0
        while hits < min(usable, len(prompt)) and prompt[hits] in self._held:
            hits += 1
        self._asked += 1
        # The answer's last token is never computed, so its block may stay short of it.
        total = (prompt_tokens + output_tokens - 1) // self._size
        answer = [(self._asked, place) for place in range(len(prompt), total)]
        for block in reversed([*prompt, *answer]):
            self._held[block] = None
            self._held.move_to_end(block)
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return hits * self._size


def blocks_of(row: Row, number: int, block_tokens: int) -> list[Hashable]:
    """Names of a recorded prompt's whole blocks; what no recorded block covers is its own."""
    names: list[Hashable] = []
    for start in range(0, row.prompt_tokens - block_tokens + 1, block_tokens):
        place, offset = divmod(start, row.block_tokens)
        known = place < len(row.blocks)
        names.append((row.blocks[place], offset) if known else (f"own {number}", start))
    return names
