"""The prefix index: what was sent where, and what is forgotten as an engine forgets."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from forebay.policies.routing import LONGEST_TEXT, chunk_hashes, prefix_index
from forebay.policies.routing.prefix_index import (
    LARGE_CHUNK,
    MAX_CHUNKS,
    SMALL_CHUNK,
    SMALL_CHUNKS,
    PrefixIndex,
    chunk_end,
)

texts = st.binary(max_size=3 * SMALL_CHUNK).map(lambda tail: tail + bytes(SMALL_CHUNK))


def noise(size: int, seed: int = 0) -> bytes:
    return Random(seed).randbytes(size)


@given(st.integers(0, LONGEST_TEXT), st.integers(0, 2 * LARGE_CHUNK))
@settings(max_examples=30)
def test_chains_agree_up_to_the_last_whole_chunk_in_common(shared: int, more: int) -> None:
    long = noise(LONGEST_TEXT + 2 * LARGE_CHUNK)
    first, second = long[:shared], long[:shared] + noise(more, seed=1)
    chain = chunk_hashes(first)
    assert chunk_hashes(second)[: len(chain)] == chain
    assert chunk_end(len(chain) - 1) <= shared


def test_a_chunk_s_hash_stands_for_everything_before_it() -> None:
    same = noise(SMALL_CHUNK)
    a = chunk_hashes(noise(SMALL_CHUNK, seed=1) + same)
    b = chunk_hashes(noise(SMALL_CHUNK, seed=2) + same)
    assert a[1] != b[1]


def test_a_difference_in_any_chunk_changes_it_and_all_after_it() -> None:
    text = bytearray(noise(40_000))
    before = chunk_hashes(bytes(text))
    for index in (0, 3, SMALL_CHUNKS - 1, SMALL_CHUNKS):
        text[chunk_end(index) - 1] ^= 1
        after = chunk_hashes(bytes(text))
        text[chunk_end(index) - 1] ^= 1
        assert after[:index] == before[:index]
        assert not set(after[index:]) & set(before[index:])


def test_however_long_a_prompt_is_so_many_chunks_are_looked_at() -> None:
    assert len(chunk_hashes(bytes(8 * 2**20))) == MAX_CHUNKS
    assert chunk_end(MAX_CHUNKS - 1) == LONGEST_TEXT == 64 * SMALL_CHUNK + 64 * LARGE_CHUNK


def test_each_replica_is_matched_as_far_as_it_was_sent() -> None:
    index = PrefixIndex()
    chain = tuple(range(1, 11))
    index.record("all", chain)
    index.record("head", chain[:4])
    index.record("other", (99, *chain[1:]))
    assert index.match(chain) == {"all": 10 * SMALL_CHUNK, "head": 4 * SMALL_CHUNK}
    assert index.match(chain[:2]) == {"all": 2 * SMALL_CHUNK, "head": 2 * SMALL_CHUNK}
    assert index.match((77, *chain)) == {} == index.match(())


def test_what_was_used_longest_ago_is_forgotten_first_and_tails_before_heads() -> None:
    index = PrefixIndex()
    index.resize("a", 6 * SMALL_CHUNK)
    old, new = (1, 2, 3, 4), (11, 12, 13)
    index.record("a", old)
    index.record("a", new)
    assert index.match(old) == {"a": 3 * SMALL_CHUNK}
    assert index.match(new) == {"a": 3 * SMALL_CHUNK}
    index.record("a", old[:1])  # used again: now the other one is older
    index.record("a", (21, 22, 23))
    assert index.match(old) == {"a": SMALL_CHUNK}


def test_a_smaller_cache_holds_less_at_once() -> None:
    index = PrefixIndex()
    index.record("a", (1, 2, 3, 4))
    index.resize("a", 2 * SMALL_CHUNK)
    assert index.match((1, 2, 3, 4)) == {"a": 2 * SMALL_CHUNK}


def test_one_replica_s_evictions_leave_the_others_alone() -> None:
    index = PrefixIndex()
    index.resize("small", SMALL_CHUNK)
    for name in ("small", "large"):
        index.record(name, (1, 2, 3))
    assert index.match((1, 2, 3)) == {"small": SMALL_CHUNK, "large": 3 * SMALL_CHUNK}


def test_a_forgotten_replica_promises_nothing_and_its_place_is_taken_clean() -> None:
    index = PrefixIndex()
    index.record("a", (1, 2))
    index.record("b", (1,))
    index.forget("a")
    index.record("c", (9,))
    assert index.match((1, 2)) == {"b": SMALL_CHUNK}
    assert index.match((9,)) == {"c": SMALL_CHUNK}
    index.forget("never seen")
    index.check_integrity()


def test_memory_is_bounded_whatever_a_replica_says_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefix_index, "_MAX_HELD", 100)
    index = PrefixIndex()
    index.resize("a", 1e12)
    for start in range(0, 1_000, 10):
        index.record("a", tuple(range(start, start + 10)))
    assert repr(index) == f"<PrefixIndex 100 chunks, bytes {{'a': {100 * SMALL_CHUNK}}}>"


names = st.sampled_from(["a", "b", "c", "d"])
# A tree of chunks, as chained hashes form one: a chunk has one predecessor only.
chains = st.lists(st.integers(0, 2), max_size=12).map(
    lambda path: tuple(hash(tuple(path[: end + 1])) for end in range(len(path)))
)


class IndexMachine(RuleBasedStateMachine):
    """Whatever is recorded, resized and forgotten, both sides of the index agree."""

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex()
        self.sent: dict[str, set[tuple[int, ...]]] = {}

    @rule(name=names, chain=chains)
    def record(self, name: str, chain: tuple[int, ...]) -> None:
        self.index.record(name, chain)
        self.sent.setdefault(name, set()).update(chain[: n + 1] for n in range(len(chain)))

    @rule(name=names, chunks=st.integers(0, 20))
    def resize(self, name: str, chunks: int) -> None:
        self.index.resize(name, chunks * SMALL_CHUNK)

    @rule(name=names)
    def forget(self, name: str) -> None:
        self.index.forget(name)
        self.sent.pop(name, None)

    @rule(chain=chains)
    def match(self, chain: tuple[int, ...]) -> None:
        for name, size in self.index.match(chain).items():
            assert chain[: size // SMALL_CHUNK] in self.sent[name]

    @invariant()
    def both_sides_agree(self) -> None:
        self.index.check_integrity()

    @invariant()
    def what_is_held_is_held_from_the_head_on(self) -> None:
        for name, sent in self.sent.items():
            held = {c for c in sent if self.index.match(c).get(name) == len(c) * SMALL_CHUNK}
            known = {c for c in sent if c[-1] in self.index._held[name].sizes}
            assert held == known


IndexMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30)
test_index_machine = IndexMachine.TestCase
