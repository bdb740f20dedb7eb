"""The paged KV cache: blocks, who holds them, what can be found in them, which goes next.

A block is a number. It is held by the sequences that refer to it, or free. A full block has a name
(`tokens.block_name`) under which later prompts find it, held or free, until it is taken for
something else. vLLM 0.29 (v1/core/block_pool.py) keeps free blocks in one list. Its order is always
the same three stretches, which are kept apart here:

1. freed without a name (part-filled): nobody can find them, so they go first, last freed first;
2. never used: counted, not listed;
3. freed with a name: the one that was freed longest ago goes first.

Two sequences that compute the same tokens side by side each have a block of that name; prompts find
the older one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """`blocks` KV blocks and the names of the full ones."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks
        self.free = blocks
        self._references: list[int] = []  # of the blocks used so far; the rest are fresh
        self._nameless: list[int] = []
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self._name_of: dict[int, int] = {}
        self._found: dict[int, int] = {}
        self._copies: dict[int, list[int]] = {}

    @property
    def usage(self) -> float:
        """Share of the blocks that are held, 0 to 1."""
        return 1.0 - self.free / self.blocks

    @property
    def named(self) -> int:
        """Blocks, held or free, in which a prompt can find something."""
        return len(self._name_of)

    def find(self, names: Iterable[int]) -> list[int]:
        """Blocks of the longest beginning of `names` that is in the cache; takes none of them."""
        hit: list[int] = []
        for name in names:
            block = self._found.get(name)
            if block is None:
                break
            hit.append(block)
        return hit

    def free_among(self, blocks: Sequence[int]) -> int:
        """How many of `blocks` nobody holds: sharing them uses up free blocks."""
        references = self._references
        return sum(1 for block in blocks if not references[block])

    def take(self, count: int) -> list[int]:
        """Take `count` free blocks (at most `free`); what could be found in them is gone."""
        self.free -= count
        return [self._take_one() for _ in range(count)]

    def share(self, blocks: Sequence[int]) -> None:
        """Hold blocks that `find` returned once more."""
        for block in blocks:
            if not self._references[block]:
                del self._evictable[block]
                self.free -= 1
            self._references[block] += 1

    def name(self, block: int, name: int) -> None:
        """Let prompts find a held block, which is full now, under `name`."""
        self._name_of[block] = name
        if name in self._found:
            self._copies.setdefault(name, []).append(block)
        else:
            self._found[name] = block

    def release(self, blocks: Sequence[int]) -> None:
        """Let go of a sequence's blocks, the last one first: a prefix is worth more than its tail.

        Args:
            blocks: in the order of the sequence's tokens.
        """
        nameless: list[int] = []
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block]:
                continue
            self.free += 1
            if block in self._name_of:
                self._evictable[block] = None
            else:
                nameless.append(block)
        self._nameless.extend(reversed(nameless))

    def _take_one(self) -> int:
        if self._nameless:
            block = self._nameless.pop()
        elif len(self._references) < self.blocks:
            block = len(self._references)
            self._references.append(0)
        else:
            block, _ = self._evictable.popitem(last=False)
            self._forget(block)
        self._references[block] = 1
        return block

    def _forget(self, block: int) -> None:
        name = self._name_of.pop(block)
        copies = self._copies.get(name)
        if copies is None:
            del self._found[name]
            return
        if self._found[name] == block:
            self._found[name] = copies.pop(0)
        else:
            copies.remove(block)
        if not copies:
            del self._copies[name]

    def check_integrity(self, holders: Iterable[Sequence[int]]) -> None:
        """Raise AssertionError when the books differ from what `holders` hold.

        Args:
            holders: the blocks of each sequence.
        """
        held = [0] * len(self._references)
        for blocks in holders:
            for block in blocks:
                held[block] += 1
        assert held == self._references, "reference counts"
        listed = [*self._nameless, *self._evictable]
        assert len(listed) == len(set(listed)), "a block is free twice"
        assert set(listed) == {block for block, count in enumerate(held) if not count}
        assert self.free == self.blocks - len(held) + len(listed), self.free
        assert not set(self._nameless) & self._name_of.keys()
        assert self._evictable.keys() <= self._name_of.keys()
        by_name = [(block, name) for name, block in self._found.items()]
        by_name += [(block, name) for name, more in self._copies.items() for block in more]
        assert len(by_name) == len(self._name_of)
        assert dict(by_name) == self._name_of, "names"

    def __repr__(self) -> str:
        return f"<BlockPool free={self.free}/{self.blocks} named={self.named}>"
