"""What a router makes of the others that it does not hear of."""

from __future__ import annotations

import pytest

from forebay.policies.routing.other_routers import OtherRouters
from forebay.policies.routing.replica_view import Growth


def counted(routers: int, arrivals: float, own: int, publications: int = 200) -> OtherRouters:
    others = OtherRouters(routers, unseen_for_s=0.75)
    for _ in range(publications):
        others.observe(Growth(arrivals, own))
    return others


def test_before_anything_was_counted_the_setting_holds() -> None:
    assert OtherRouters(3, unseen_for_s=0.75).scale == 3.0


@pytest.mark.parametrize("really", [1, 2, 5])
def test_what_replicas_count_corrects_the_setting(really: int) -> None:
    assert counted(3, arrivals=20 * really, own=20).scale == pytest.approx(really, rel=0.1)


def test_a_router_that_was_given_nothing_does_not_run_away() -> None:
    assert counted(1, arrivals=1e6, own=0).scale <= 64
    assert counted(1, arrivals=0, own=1_000).scale == 1.0


def test_alone_there_is_nothing_unseen() -> None:
    others = counted(1, arrivals=20, own=20)
    others.send(1.0, now=0.0)
    assert others.blur_s(8, now=0.0) == pytest.approx(0.0, abs=0.01)


def test_the_unseen_grows_with_routers_and_work_and_fades_with_time() -> None:
    two, four = counted(2, 40, 20), counted(4, 80, 20)
    for others in (two, four):
        others.send(0.1, now=0.0)
    assert 0.0 < two.blur_s(8, now=0.0) < four.blur_s(8, now=0.0)
    assert four.blur_s(8, now=0.0) < four.blur_s(2, now=0.0)
    before = two.blur_s(8, now=0.0)
    two.send(0.1, now=0.0)
    assert two.blur_s(8, now=0.0) > before
    assert two.blur_s(8, now=30.0) < before / 100


def test_few_requests_to_a_publication_are_learned_from_as_well() -> None:
    others = OtherRouters(1, unseen_for_s=0.75)  # one on each of two nodes
    for number in range(5_000):
        arrivals = number % 3 == 0
        others.observe(Growth(float(arrivals), number % 6 == 0))
    assert others.scale == pytest.approx(2.0, rel=0.1)
    assert others.exist


def test_a_router_that_has_left_is_forgotten() -> None:
    others = counted(2, arrivals=40, own=20)
    for _ in range(200):
        others.observe(Growth(20.0, 20))
    assert not others.exist
