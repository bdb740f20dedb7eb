"""Slots by weight to those who ask: enough for the modest, the rest for the greedy."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.fairness import FairQueue, most_held
from forebay.policies.fairness.flow_slots import Weigh, greedy

SLOTS = 64
FLOWS = st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.01, 500)), min_size=1, max_size=6)


def weigh(*weights: float) -> Weigh:
    """These, whoever is active."""
    return lambda chosen: [weights[place] for place in chosen]


def equal(chosen: Sequence[int]) -> list[float]:
    return [1.0] * len(chosen)


def test_the_greedy_is_held_to_what_the_modest_leave_with_room_for_chance() -> None:
    assert most_held([9, 900], equal, SLOTS) == [inf, 64 - (9 + 2 * 3 + 1)]


def test_the_greedy_divide_by_weight() -> None:
    assert most_held([900, 900], weigh(3, 1), SLOTS) == [48, 16]


def test_many_modest_tenants_near_capacity_are_left_alone() -> None:
    assert most_held([3] * 20, equal, SLOTS) == [inf] * 20


def test_who_asks_alone_may_have_everything_and_queue_for_more() -> None:
    assert most_held([900], equal, SLOTS) == [inf]


def test_many_who_are_modest_together_leave_the_greedy_its_share() -> None:
    assert most_held([900, *[6] * 10], equal, SLOTS)[0] == pytest.approx(SLOTS / 11)


def test_many_small_tenants_of_a_class_take_nothing_from_a_large_one_of_it() -> None:
    flows = [("large", "interactive"), *((f"small {n}", "interactive") for n in range(30))]
    flows.append(("", "batch"))
    fair = FairQueue({"interactive": 8.0, "batch": 1.0})

    def by_class(chosen: Sequence[int]) -> list[float]:
        return fair.weights_of([flows[place] for place in chosen])

    most = most_held([40, *[0.1] * 30, 500], by_class, SLOTS)
    assert most[0] == inf
    assert most[-1] == pytest.approx(64 / 9)


@given(flows=FLOWS, slots=st.integers(1, 128))
def test_what_is_given_out_never_exceeds_the_slots(
    flows: list[tuple[float, float]], slots: int
) -> None:
    weights, wanted = [one for one, _ in flows], [one for _, one in flows]
    held_back = greedy(wanted, weigh(*weights), slots)
    modest = sum(one for place, one in enumerate(wanted) if place not in held_back)
    assert modest <= slots + 1e-6
    most = most_held(wanted, weigh(*weights), slots)
    if len(flows) > 1:
        assert sum(most[place] for place in held_back) <= slots + 1e-6
        assert all(most[place] > 0 for place in held_back)
        assert all(most[place] == inf for place in range(len(flows)) if place not in held_back)
