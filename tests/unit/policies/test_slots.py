"""Slots by weight to those who ask: enough for the modest, the rest for the greedy."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forebay.policies.slots import Claim, content, most_held

SLOTS = 64
CLAIMS = st.lists(
    st.builds(Claim, weight=st.floats(0.1, 10), wanted=st.floats(0.01, 500)),
    min_size=1,
    max_size=6,
)


def test_the_greedy_is_held_to_what_the_modest_leave_with_room_for_chance() -> None:
    modest, greedy = Claim(1, 9), Claim(1, 900)
    assert most_held([greedy, modest], SLOTS)[0] == 64 - (9 + 2 * 3 + 1)
    assert most_held([modest, greedy], SLOTS)[0] == inf


def test_the_greedy_divide_by_weight() -> None:
    heavy, light = Claim(3, 900), Claim(1, 900)
    assert most_held([heavy, light], SLOTS)[0] == 48
    assert most_held([light, heavy], SLOTS)[0] == 16


def test_many_modest_tenants_near_capacity_are_left_alone() -> None:
    claims = [Claim(1, 3)] * 20
    assert most_held(claims, SLOTS)[0] == inf


def test_who_asks_alone_may_have_everything_and_queue_for_more() -> None:
    assert most_held([Claim(1, 900)], SLOTS) == [inf]


def test_many_who_are_modest_together_leave_the_greedy_its_share() -> None:
    modest = [Claim(1, 6)] * 10
    assert most_held([Claim(1, 900), *modest], SLOTS)[0] == pytest.approx(SLOTS / 11)


@settings(max_examples=200)
@given(claims=CLAIMS, slots=st.integers(1, 128))
def test_what_is_given_out_never_exceeds_the_slots(claims: list[Claim], slots: int) -> None:
    is_content = content(claims, slots)
    modest = sum(c.wanted for c, ok in zip(claims, is_content, strict=True) if ok)
    assert modest <= slots + 1e-6
    most = most_held(claims, slots)
    greedy = [m for m, ok in zip(most, is_content, strict=True) if not ok]
    if len(claims) > 1:
        assert sum(greedy) <= slots + 1e-6
        assert all(m > 0 for m in greedy)
    assert all(m == inf for m, ok in zip(most, is_content, strict=True) if ok)
