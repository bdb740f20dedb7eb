"""The queue in tag order against the obvious list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.policies import tag_queue
from forebay.policies.tag_queue import TagQueue

entries = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), max_size=120)


@given(added=entries, data=st.data())
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_a_plain_list(added: list[tuple[int, int]], data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tag_queue, "_MOST", 4)
        queue, naive = TagQueue(), list[tuple[int, int]]()
        for entry in added:
            queue.add(*entry)
            naive.append(entry)
            if data.draw(st.booleans()):
                gone = naive.pop(data.draw(st.integers(0, len(naive) - 1)))
                queue.remove(*gone)
            queue.check_integrity()
            tag = data.draw(st.integers(-1, 7))
            assert queue.tokens_before(tag) == sum(n for t, n in naive if t <= tag)
            assert queue.tokens_after(tag) == sum(n for t, n in naive if t > tag)
            assert (len(queue), queue.tokens) == (len(naive), sum(n for _, n in naive))


def test_thousands_of_requests_stay_in_small_blocks() -> None:
    queue = TagQueue()
    for k in range(3000):
        queue.add(k * 7919 % 3001, 2)
    queue.check_integrity()
    assert queue.tokens_before(1500) + queue.tokens_after(1500) == 6000
    assert queue.tokens_before(3001) == 6000
    assert queue.tokens_after(-1) == 6000


def test_an_arrival_with_an_equal_tag_goes_behind() -> None:
    queue = TagQueue()
    queue.add(5, 100)
    assert queue.tokens_before(5) == 100
    assert queue.tokens_before(4) == 0


@pytest.mark.parametrize(("tag", "tokens"), [(1, 3), (2, 2), (9, 1)])
def test_what_is_not_there_cannot_be_removed(tag: int, tokens: int) -> None:
    queue = TagQueue()
    queue.add(1, 2)
    with pytest.raises(KeyError, match="no request"):
        queue.remove(tag, tokens)
    assert queue.tokens == 2
