"""Who waits, in the order of their tags: how much is ahead of a new arrival, and whom it delays.

Sorted blocks, each with its total and its earliest promise: adding, removing and summing touch one
block and one total per block. With some thousands of requests queued, that is tens of steps each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from math import inf
from typing import NamedTuple

_MOST = 128  # entries of a block; it is split in two beyond

_LAST = (1 << 63) - 1  # sorts behind any number of tokens

# Whether a sequence is late that waits for so many tokens and so many sequences, itself among both,
# and should begin by then (s). More to wait for never makes it less late, nor does less time.
Late = Callable[[int, int, float], bool]


class _Entry(NamedTuple):
    tag: int
    due: float  # of equal tags the earlier, as a class promises, is the one that came first
    tokens: int
    kv_tokens: int = 0


class TagQueue:
    """Sequences by tag. Equal tags are served by arrival, as vLLM does."""

    def __init__(self) -> None:
        """Nothing is queued."""
        self._blocks: list[list[_Entry]] = []
        self._totals: list[int] = []
        self._soonest: list[float] = []
        self._count = 0
        self.tokens = 0

    def __len__(self) -> int:
        return self._count

    def add(self, tag: int, tokens: int, due: float = inf, kv_tokens: int = 0) -> None:
        """A sequence with this tag has come to wait; its first token is promised by `due` (s).

        It has `tokens` of its prompt to compute, and will take `kv_tokens` of the cache.
        """
        entry = _Entry(tag, due, tokens, kv_tokens)
        self.tokens += tokens
        self._count += 1
        if not self._blocks:
            self._blocks, self._totals, self._soonest = [[entry]], [tokens], [due]
            return
        index = min(self._block_of(entry), len(self._blocks) - 1)
        insort(self._blocks[index], entry)
        self._totals[index] += tokens
        self._soonest[index] = min(self._soonest[index], due)
        if len(self._blocks[index]) > _MOST:
            self._split(index)

    def remove(self, tag: int, tokens: int, due: float = inf, kv_tokens: int = 0) -> None:
        """A sequence that was added with these values waits no more.

        Raises:
            KeyError: there is none.
        """
        entry = _Entry(tag, due, tokens, kv_tokens)
        index = self._block_of(entry)
        block = self._blocks[index] if index < len(self._blocks) else []
        place = bisect_left(block, entry)
        if place == len(block) or block[place] != entry:
            raise KeyError(f"nothing with tag {tag} and {tokens} tokens waits")
        del block[place]
        self._totals[index] -= tokens
        self._count -= 1
        self.tokens -= tokens
        if not block:
            del self._blocks[index], self._totals[index], self._soonest[index]
        elif due <= self._soonest[index]:
            self._soonest[index] = _soonest(block)

    def before(self, tag: int) -> tuple[int, int]:
        """(Tokens, sequences) served before a new arrival with this tag: smaller and equal tags."""
        if not self._count:  # as of who is held, mostly
            return 0, 0
        last = _last_of(tag)
        index = self._block_of(last)
        tokens, sequences = self._before_block(index)
        if index < len(self._blocks):
            block = self._blocks[index]
            place = bisect_right(block, last)
            if 2 * place < len(block):
                tokens += sum([entry.tokens for entry in block[:place]])
            else:  # most arrivals come last, or nearly
                tokens += self._totals[index] - sum([entry.tokens for entry in block[place:]])
            sequences += place
        return tokens, sequences

    def kv_behind(self, tag: int) -> int:
        """KV tokens of those served after a new arrival with this tag; looks at each of them."""
        last = _last_of(tag)
        index = self._block_of(last)
        return sum(
            sum(entry.kv_tokens for entry in block if entry > last)
            for block in self._blocks[index:]
        )

    def makes_late(self, tag: int, late_now: Late, late_then: Late) -> bool:
        """Whether an arrival with this tag makes anybody late who is not late without it.

        Args:
            tag: the arrival's: everybody with a larger one is behind it.
            late_now: whether somebody is late without the arrival.
            late_then: whether somebody is late with it.
        """
        first = self._block_of(_last_of(tag))
        tokens, sequences = self._before_block(first)
        for index in range(first, len(self._blocks)):
            block = self._blocks[index]
            at_end = tokens + self._totals[index], sequences + len(block)
            if late_then(*at_end, self._soonest[index]):
                for entry in block:
                    tokens, sequences = tokens + entry.tokens, sequences + 1
                    late = entry.tag > tag and late_then(tokens, sequences, entry.due)
                    if late and not late_now(tokens, sequences, entry.due):
                        return True
            tokens, sequences = at_end
        return False

    def last_before(self, tag: int, count: int) -> list[tuple[int, int, float]]:
        """Of those served before an arrival with this tag, the last so many; the last one first.

        Returns:
            For each: prompt tokens to compute up to and with its own, its own, and when it is due.
        """
        last = _last_of(tag)
        index = self._block_of(last)
        through = self.before(tag)[0]
        found: list[tuple[int, int, float]] = []
        while index >= 0 and len(found) < count:
            block = self._blocks[index] if index < len(self._blocks) else []
            for entry in reversed(block[: bisect_right(block, last)]):
                if len(found) == count:
                    break
                found.append((through, entry.tokens, entry.due))
                through -= entry.tokens
            index -= 1
        return found

    def _before_block(self, index: int) -> tuple[int, int]:
        return sum(self._totals[:index]), sum(map(len, self._blocks[:index]))

    def _block_of(self, entry: _Entry) -> int:
        """The first block that ends with this entry or a later one; their number if none does."""
        if len(self._blocks) < 2:  # as mostly
            return 0 if self._blocks and entry <= self._blocks[0][-1] else len(self._blocks)
        return bisect_left(self._blocks, entry, key=lambda block: block[-1])

    def _split(self, index: int) -> None:
        block = self._blocks[index]
        halves = [block[: len(block) // 2], block[len(block) // 2 :]]
        self._blocks[index : index + 1] = halves
        self._totals[index : index + 1] = [sum(e.tokens for e in half) for half in halves]
        self._soonest[index : index + 1] = [_soonest(half) for half in halves]

    def check_integrity(self) -> None:
        """Totals are those of the entries, and the entries are in order.

        Raises:
            AssertionError: they are not.
        """
        flat = [entry for block in self._blocks for entry in block]
        assert flat == sorted(flat)
        assert all(0 < len(block) <= _MOST for block in self._blocks)
        assert self._totals == [sum(e.tokens for e in block) for block in self._blocks]
        assert self._soonest == [_soonest(block) for block in self._blocks]
        assert (self._count, self.tokens) == (len(flat), sum(self._totals))


def _last_of(tag: int) -> _Entry:
    """Behind every entry with this tag, and before those with the next."""
    return _Entry(tag, inf, _LAST)


def _soonest(block: list[_Entry]) -> float:
    return min(entry.due for entry in block)
