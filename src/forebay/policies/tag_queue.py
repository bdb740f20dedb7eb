"""Queued tokens in the order of their tags: how much is ahead of a new arrival, how much behind.

Sorted blocks with a total each: adding, removing and summing touch one block and one total per
block. With some thousands of requests queued, that is tens of steps each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

_MOST = 128  # entries of a block; it is split in two beyond

_Entry = tuple[int, int]  # tag, tokens
_LAST = (1 << 63) - 1  # sorts behind any number of tokens


class TagQueue:
    """A multiset of (tag, tokens). Equal tags are served by arrival, as vLLM does."""

    def __init__(self) -> None:
        """Nothing is queued."""
        self._blocks: list[list[_Entry]] = []
        self._totals: list[int] = []
        self.tokens = 0

    def __len__(self) -> int:
        return sum(map(len, self._blocks))

    def add(self, tag: int, tokens: int) -> None:
        """A request with this tag has come to wait."""
        self.tokens += tokens
        if not self._blocks:
            self._blocks, self._totals = [[(tag, tokens)]], [tokens]
            return
        index = min(self._block_of((tag, tokens)), len(self._blocks) - 1)
        insort(self._blocks[index], (tag, tokens))
        self._totals[index] += tokens
        if len(self._blocks[index]) > _MOST:
            self._split(index)

    def remove(self, tag: int, tokens: int) -> None:
        """A request that was added with this tag and these tokens waits no more.

        Raises:
            KeyError: there is none.
        """
        index = self._block_of((tag, tokens))
        block = self._blocks[index] if index < len(self._blocks) else []
        place = bisect_left(block, (tag, tokens))
        if place == len(block) or block[place] != (tag, tokens):
            raise KeyError(f"no request with tag {tag} and {tokens} tokens waits")
        del block[place]
        self._totals[index] -= tokens
        self.tokens -= tokens
        if not block:
            del self._blocks[index], self._totals[index]

    def tokens_before(self, tag: int) -> int:
        """Tokens served before a new arrival with this tag: those of smaller and equal tags."""
        index = self._block_of((tag, _LAST))
        before = sum(self._totals[:index])
        if index < len(self._blocks):
            block = self._blocks[index]
            before += sum(tokens for _, tokens in block[: bisect_right(block, (tag, _LAST))])
        return before

    def tokens_after(self, tag: int) -> int:
        """Tokens that a new arrival with this tag would overtake: those of larger tags."""
        return self.tokens - self.tokens_before(tag)

    def _block_of(self, entry: _Entry) -> int:
        """The first block that ends with this entry or a later one; their number if none does."""
        return bisect_left(self._blocks, entry, key=lambda block: block[-1])

    def _split(self, index: int) -> None:
        block = self._blocks[index]
        halves = [block[: len(block) // 2], block[len(block) // 2 :]]
        self._blocks[index : index + 1] = halves
        self._totals[index : index + 1] = [sum(t for _, t in half) for half in halves]

    def check_integrity(self) -> None:
        """Totals are those of the entries, and the entries are in order.

        Raises:
            AssertionError: they are not.
        """
        flat = [entry for block in self._blocks for entry in block]
        assert flat == sorted(flat)
        assert all(0 < len(block) <= _MOST for block in self._blocks)
        assert self._totals == [sum(t for _, t in block) for block in self._blocks]
        assert self.tokens == sum(self._totals)

    def __repr__(self) -> str:
        return f"<TagQueue {len(self)} requests, {self.tokens} tokens>"
