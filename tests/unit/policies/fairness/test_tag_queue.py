"""The queue in tag order against the obvious list."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.fairness import TagQueue, tag_queue

entries = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), max_size=120)


@given(added=entries, data=st.data())
def test_sums_are_those_of_a_plain_list(added: list[tuple[int, int]], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tag_queue, "_MOST", 4)
        queue, naive = TagQueue(), list[tuple[int, int]]()
        for entry in added:
            queue.add(*entry, due=sum(entry) % 5)
            naive.append(entry)
            if data.draw(st.booleans()):
                gone = naive.pop(data.draw(st.integers(0, len(naive) - 1)))
                queue.remove(*gone, due=sum(gone) % 5)
            queue.check_integrity()
            tag = data.draw(st.integers(-1, 31))
            ahead = [n for t, n in naive if t <= tag]
            assert queue.before(tag) == (sum(ahead), len(ahead))
            assert (len(queue), queue.tokens) == (len(naive), sum(n for _, n in naive))


def test_thousands_of_requests_stay_in_small_blocks() -> None:
    queue = TagQueue()
    for k in range(3001):
        queue.add(k * 7919 % 3001, 2)
    queue.check_integrity()
    assert queue.before(1500) == (3002, 1501)
    assert queue.before(3001) == (6002, 3001)
    assert queue.before(-1) == (0, 0)


promised = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 120), st.integers(1, 9)), max_size=60
)


@given(added=promised, tag=st.integers(-1, 31), mine=st.integers(0, 20))
def test_whom_an_arrival_makes_late_is_found_as_by_looking_at_everybody(
    added: list[tuple[int, int, int]], tag: int, mine: int
) -> None:
    def late_now(tokens: int, sequences: int, due: float) -> bool:
        return tokens + sequences > due

    def late_then(tokens: int, sequences: int, due: float) -> bool:
        return late_now(tokens + mine, sequences + 1, due)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tag_queue, "_MOST", 4)
        queue = TagQueue()
        for other, due, size in added:
            queue.add(other, size, due)
        queue.check_integrity()
        found, tokens = False, 0
        for count, (other, due, size) in enumerate(sorted(added), 1):
            tokens += size
            if other > tag and not late_now(tokens, count, due):
                found = found or late_then(tokens, count, due)
        assert queue.makes_late(tag, late_now, late_then) == found


def test_an_arrival_with_an_equal_tag_goes_behind() -> None:
    queue = TagQueue()
    queue.add(5, 100)
    assert queue.before(5) == (100, 1)
    assert queue.before(4) == (0, 0)


@pytest.mark.parametrize(("tag", "tokens"), [(1, 3), (2, 2), (9, 1)])
def test_what_is_not_there_cannot_be_removed(tag: int, tokens: int) -> None:
    queue = TagQueue()
    queue.add(1, 2)
    with pytest.raises(KeyError, match="nothing with tag"):
        queue.remove(tag, tokens)
    assert queue.tokens == 2


@given(added=entries, tag=st.integers(-1, 8), count=st.integers(1, 9))
def test_the_last_before_an_arrival_are_those_of_a_plain_list(
    added: list[tuple[int, int]], tag: int, count: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tag_queue, "_MOST", 4)
        queue = TagQueue()
        for number, (of, tokens) in enumerate(added):
            queue.add(of, tokens, due=float(number))
        ordered = sorted((of, float(n), tokens) for n, (of, tokens) in enumerate(added))
        ahead = [(tokens, due) for of, due, tokens in ordered if of <= tag]
        through = [sum(t for t, _ in ahead[: k + 1]) for k in range(len(ahead))]
        wanted = [(sum_, t, due) for sum_, (t, due) in zip(through, ahead, strict=True)]
        assert queue.last_before(tag, count) == wanted[::-1][:count]
