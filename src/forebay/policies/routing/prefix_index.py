"""What each replica probably holds in its prefix cache, as far as one router can know it.

A router has no tokenizer, so prompts are followed as bytes: cut into chunks that are hashed in a
chain, each chunk's hash standing for the whole prompt up to its end. The index remembers which
chunks it sent where, and forgets as an engine does: least recently used first, a prompt's tail
before its head, within the bytes of prompt that the replica's KV cache can hold.

It promises, it does not know: the engine may have evicted a prefix, shed the request that would
have brought it, or keep tenants' prefixes apart. `prefix_yield.py` learns what promises are worth.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

# A chunk that is not whole is not followed, so 512 bytes lose at most about 128 tokens of English,
# a few of vLLM's blocks. Far into a long prompt, 4 KiB lose little of it and cost an eighth.
SMALL_CHUNK = 512
SMALL_CHUNKS = 64
LARGE_CHUNK = 4096
MAX_CHUNKS = 128  # 32 KiB in small chunks and 256 KiB in large ones, about 72,000 tokens
_MAX_HELD = 65_536  # chunks remembered of one replica, some 15 MB of memory


def chunk_end(index: int) -> int:
    """Bytes of prompt up to the end of the chunk at `index`; 0 for -1."""
    small = min(index + 1, SMALL_CHUNKS)
    return small * SMALL_CHUNK + max(index + 1 - SMALL_CHUNKS, 0) * LARGE_CHUNK


def whole_chunks(size: int) -> int:
    """Bytes in the whole chunks of a prompt of so many bytes, however long."""
    head = min(size, SMALL_CHUNKS * SMALL_CHUNK)
    return head - head % SMALL_CHUNK + (size - head) // LARGE_CHUNK * LARGE_CHUNK


_ENDS = tuple(chunk_end(index) for index in range(MAX_CHUNKS))
LONGEST_TEXT = _ENDS[-1]  # bytes of prompt that are looked at


def chunk_hashes(text: bytes) -> tuple[int, ...]:
    """The chain of hashes of a prompt's whole chunks, at most `MAX_CHUNKS`.

    They are Python's own, and so another process's are others: 64 bits, of which with a million
    chunks remembered one in 10^13 look-ups finds a false match.
    """
    chain: list[int] = []
    link = start = 0
    for end in _ENDS[: bisect_right(_ENDS, len(text))]:
        link = hash((link, text[start:end]))
        chain.append(link)
        start = end
    return tuple(chain)


class PrefixIndex:
    """Which replica was sent which prefixes.

    Holders of a chunk are a bit mask over the replicas' places, so a look-up costs one dictionary
    access a chunk, however many replicas there are.
    """

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}
        self._held: dict[str, _Held] = {}
        self._names: dict[int, str] = {}  # by place

    def match(self, chunks: Sequence[int]) -> dict[str, int]:
        """Bytes of the prompt's head that each replica probably has; those with none left out."""
        matched: dict[str, int] = {}
        left = -1
        for index, chunk in enumerate(chunks):
            having = self._holders.get(chunk, 0)
            if index:
                having &= left
                if having != left:
                    self._enter(matched, left & ~having, chunk_end(index - 1))
            left = having
            if not left:
                return matched
        if chunks:
            self._enter(matched, left, chunk_end(len(chunks) - 1))
        return matched

    def _enter(self, matched: dict[str, int], places: int, size: int) -> None:
        for place in _bits(places):
            matched[self._names[place]] = size

    def record(self, replica: str, chunks: Sequence[int]) -> None:
        """A prompt with these chunks was sent to a replica, which will have computed it.

        The head is touched last: an engine too gives up a prompt's tail before its head.
        """
        if not chunks:
            return
        held = self._held.get(replica) or self._add(replica)
        for index in range(len(chunks) - 1, -1, -1):
            if held.touch(chunks[index], _size(index)):
                self._holders[chunks[index]] = self._holders.get(chunks[index], 0) | held.bit
        self._clear(held.bit, held.shrink())

    def resize(self, replica: str, capacity_bytes: float) -> None:
        """The replica's KV cache holds about this many bytes of prompt."""
        held = self._held.get(replica) or self._add(replica)
        held.capacity = capacity_bytes
        self._clear(held.bit, held.shrink())

    def forget(self, replica: str) -> None:
        """The replica is gone, or takes nothing new: nothing is promised of it any more."""
        held = self._held.pop(replica, None)
        if held is not None:
            self._clear(held.bit, held.sizes)
            del self._names[held.place]

    def _add(self, replica: str) -> _Held:
        place = next(place for place in range(len(self._names) + 1) if place not in self._names)
        self._names[place] = replica
        self._held[replica] = _Held(place)
        return self._held[replica]

    def _clear(self, bit: int, chunks: Iterable[int]) -> None:
        for chunk in chunks:
            left = self._holders[chunk] & ~bit
            if left:
                self._holders[chunk] = left
            else:
                del self._holders[chunk]

    def check_integrity(self) -> None:
        """Raise AssertionError unless both sides of the index agree and every bound is kept."""
        masks: dict[int, int] = {}
        for held in self._held.values():
            held.check_integrity()
            for chunk in held.sizes:
                masks[chunk] = masks.get(chunk, 0) | held.bit
        assert masks == self._holders
        assert self._names == {held.place: name for name, held in self._held.items()}

    def __repr__(self) -> str:
        sizes = {name: held.total for name, held in self._held.items()}
        return f"<PrefixIndex {len(self._holders)} chunks, bytes {sizes}>"


class _Held:
    """The chunks of one replica in the order of their last use, within its capacity."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.bit = 1 << place
        self.capacity = float("inf")
        self.sizes: dict[int, int] = {}  # bytes of each chunk; the longest unused one first
        self.total = 0

    def touch(self, chunk: int, size: int) -> bool:
        """Make a chunk the last used one; says whether it is new."""
        known = self.sizes.pop(chunk, 0)
        self.sizes[chunk] = size
        self.total += size - known
        return not known

    def shrink(self) -> list[int]:
        """Forget what exceeds the capacity, longest unused first; returns the forgotten chunks."""
        gone: list[int] = []
        while self.sizes and (self.total > self.capacity or len(self.sizes) > _MAX_HELD):
            chunk = next(iter(self.sizes))
            self.total -= self.sizes.pop(chunk)
            gone.append(chunk)
        return gone

    def check_integrity(self) -> None:
        assert self.total == sum(self.sizes.values())
        assert self.total <= self.capacity
        assert len(self.sizes) <= _MAX_HELD


def _size(index: int) -> int:
    return SMALL_CHUNK if index < SMALL_CHUNKS else LARGE_CHUNK


def _bits(mask: int) -> Iterator[int]:
    """Places of the bits that are set."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
