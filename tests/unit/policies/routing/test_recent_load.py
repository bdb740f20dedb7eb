"""What a router sent to each replica of late, and how evenly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.routing.recent_load import RecentLoad

NAMES = ["a", "b", "c"]


def test_nothing_sent_yet_is_even() -> None:
    load = RecentLoad()
    sent = load.sent(NAMES, now=0.0)
    assert load.shares(sent) == dict.fromkeys(NAMES, 1.0)
    assert load.busy(sent, routers=1.0, now=0.0) == 0.0


def test_who_was_sent_more_has_the_larger_share() -> None:
    load = RecentLoad()
    for _ in range(30):
        load.add("a", 0.1, now=0.0)
    for _ in range(15):
        load.add("b", 0.1, now=0.0)
    shares = load.shares(load.sent(NAMES, now=0.0))
    assert shares["a"] > shares["b"] > shares["c"] > 0.0


def test_a_single_send_says_little() -> None:
    load = RecentLoad()
    load.add("a", 0.1, now=0.0)
    assert load.shares(load.sent(NAMES, now=0.0))["a"] < 1.3


def test_what_was_long_ago_no_longer_counts() -> None:
    load = RecentLoad()
    for _ in range(50):
        load.add("a", 0.1, now=0.0)
    assert load.shares(load.sent(NAMES, now=0.0))["a"] > 2.0
    assert load.shares(load.sent(NAMES, now=300.0))["a"] == pytest.approx(1.0, abs=0.01)


def test_busy_is_work_over_time_for_all_routers_together() -> None:
    load = RecentLoad()
    for second in range(200):
        load.add(NAMES[second % 3], 0.6, now=float(second))
    sent = load.sent(NAMES, now=200.0)
    assert load.busy(sent, routers=1.0, now=200.0) == pytest.approx(0.2, abs=0.02)
    assert load.busy(sent, routers=3.0, now=200.0) == pytest.approx(0.6, abs=0.06)


def test_a_flood_does_not_count_as_more_than_busy() -> None:
    load = RecentLoad()
    load.add("a", 1e9, now=0.0)
    assert load.busy(load.sent(NAMES, now=0.0), routers=64.0, now=0.0) < 1.0


def test_who_joins_counts_as_having_been_sent_what_the_others_were_on_average() -> None:
    load = RecentLoad()
    load.meet("a", [], now=0.0)
    assert load.of("a", 0.0) == 0.0
    for _ in range(30):
        load.add("a", 0.1, now=0.0)
        load.add("b", 0.2, now=0.0)
    load.meet("c", ["a", "b"], now=5.0)
    sent = load.sent(NAMES, now=5.0)
    assert sent["c"] == pytest.approx((sent["a"] + sent["b"]) / 2)
    assert load.shares(sent)["c"] == pytest.approx(1.0)


def test_a_replica_that_is_gone_leaves_nothing_behind() -> None:
    load = RecentLoad()
    load.add("a", 5.0, now=0.0)
    load.forget("a")
    assert repr(load) == "<RecentLoad {}>"


@given(
    st.lists(
        st.tuples(st.sampled_from(NAMES), st.floats(0.001, 10.0), st.floats(0.0, 30.0)), max_size=60
    )
)
def test_shares_are_of_one_whole(sends: list[tuple[str, float, float]]) -> None:
    load, now = RecentLoad(), 0.0
    for name, work_s, gap in sends:
        now += gap
        load.add(name, work_s, now)
        load.check_integrity()
        shares = load.shares(load.sent(NAMES, now))
        assert sum(shares.values()) == pytest.approx(len(NAMES))
        assert all(share > 0.0 for share in shares.values())
