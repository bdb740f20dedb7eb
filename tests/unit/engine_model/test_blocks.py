"""The block pool by itself: order of reuse, sharing, copies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.engine_model.blocks import BlockPool


def filled(pool: BlockPool, names: list[int]) -> list[int]:
    """A sequence's blocks, all full and named."""
    blocks = pool.take(len(names))
    for block, name in zip(blocks, names, strict=True):
        pool.name(block, name)
    return blocks


def test_part_filled_blocks_go_first_then_fresh_ones_then_the_oldest_named() -> None:
    pool = BlockPool(6)
    old, young = filled(pool, [1, 2]), filled(pool, [3])
    loose = pool.take(1)
    pool.release(old)
    pool.release(young)
    pool.release(loose)
    assert pool.take(3) == [*loose, 4, 5]
    assert pool.find([1, 2]) == old
    assert pool.take(1) == old[1:]
    assert pool.find([1, 2]) == old[:1]
    assert pool.take(2) == [old[0], young[0]]
    assert (pool.free, pool.named) == (0, 0)


def test_a_shared_block_stays_until_the_last_holder_lets_go() -> None:
    pool = BlockPool(2)
    blocks = filled(pool, [1])
    pool.share(blocks)
    pool.release(blocks)
    assert pool.free == 1
    assert pool.free_among(blocks) == 0
    pool.release(blocks)
    assert (pool.free, pool.free_among(blocks)) == (2, 1)
    pool.share(pool.find([1]))
    assert pool.free == 1
    pool.check_integrity([blocks])


def test_of_two_copies_the_older_is_found_and_the_other_takes_its_place() -> None:
    pool = BlockPool(3)
    first, second, third = (filled(pool, [7]) for _ in range(3))
    assert pool.find([7]) == first
    pool.release(second)
    pool.release(first)
    assert pool.take(1) == second
    assert pool.find([7]) == first
    assert pool.take(1) == first
    assert pool.find([7]) == third
    pool.release(third)
    assert pool.take(1) == third
    assert pool.find([7]) == []


def test_it_tells_its_state() -> None:
    pool = BlockPool(4)
    filled(pool, [1])
    assert repr(pool) == "<BlockPool free=3/4 named=1>"
    assert pool.usage == 0.25


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=40))
def test_the_books_agree_whatever_is_taken_shared_and_released(
    moves: list[tuple[int, int]],
) -> None:
    pool = BlockPool(8)
    held: list[list[int]] = []
    for move, number in moves:
        if move == 0 and pool.free >= number:
            held.append(filled(pool, list(range(number))))
        elif move == 1:
            hit = pool.find(range(number))
            pool.share(hit)
            held.append(hit)
        elif move == 2 and held:
            pool.release(held.pop(number % len(held)))
        pool.check_integrity(held)
