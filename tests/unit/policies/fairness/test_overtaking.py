"""Who waits with much queued is told of those who will still go before it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.fairness import Arrivals, FairQueue, Flow, prolonged, rivals
from forebay.policies.request import Cost

DRAIN = 10_000.0
GREEDY, MODEST = ("greedy", "interactive"), ("modest", "interactive")
NIGHTLY = ("greedy", "batch")


def request(prefill: int, answer: int = 0) -> Cost:
    return Cost(sequences=1, prefill_tokens=prefill, output_tokens=answer, output_cap=answer)


def waiting(queued: int) -> tuple[FairQueue, int]:
    """A fair queue in which one tenant has queued so many tokens; the tag of its next request."""
    fair = FairQueue({"interactive": 8.0, "batch": 1.0})
    for _ in range(queued // 1000):
        fair.tag(*GREEDY, 1000, now=0.0)
    return fair, fair.preview(*GREEDY)


def asking(tokens_per_s: float, flow: Flow = MODEST, answer: int = 0) -> Arrivals:
    arrivals = Arrivals()
    for step in range(400):
        arrivals.add(flow, request(round(tokens_per_s / 100), answer), now=step / 100)
    return arrivals


def overtaking(
    fair: FairQueue, arrivals: Arrivals, tag: int, ahead: int, flow: Flow = GREEDY
) -> float:
    """Prompt tokens put ahead of a request with this tag that waits for `ahead` tokens."""
    others = rivals(fair, arrivals, flow, tag, now=4.0)
    wait_s = prolonged(ahead / DRAIN, [(until, prefill / DRAIN) for until, prefill, _ in others])
    return wait_s * DRAIN - ahead


def test_what_others_ask_for_during_the_wait_is_counted() -> None:
    fair, tag = waiting(5000)
    # 0.5 s of waiting behind 5,000 tokens; in it another asks for 1,000 tokens/s.
    extra = overtaking(fair, asking(1000), tag, 5000)
    assert extra == pytest.approx(500, rel=0.2)


def test_who_takes_half_of_the_engine_makes_a_wait_twice_as_long() -> None:
    fair, tag = waiting(100_000)
    extra = overtaking(fair, asking(5_000), tag, 1_000)
    assert extra == pytest.approx(1_000, rel=0.15)


def test_no_more_than_fairness_lets_them() -> None:
    fair, tag = waiting(2000)
    assert overtaking(fair, asking(1_000_000), tag, 2000) == pytest.approx(2000, rel=0.01)


def test_answers_use_up_the_room_that_fairness_gives() -> None:
    fair, tag = waiting(2000)
    # Of the 2,000 tokens that may go ahead, three in four are answers: they are nobody's prefill.
    extra = overtaking(fair, asking(1_000_000, answer=30_000), tag, 2000)
    assert extra == pytest.approx(500, rel=0.01)


def test_nobody_overtakes_itself_or_a_request_that_is_next() -> None:
    fair, tag = waiting(5000)
    assert overtaking(fair, asking(1000), tag, 5000, flow=MODEST) == 0
    assert overtaking(fair, asking(1000), fair.virtual_time, 5000) == 0


def test_batch_is_overtaken_by_interactive_and_hardly_the_other_way_round() -> None:
    fair = FairQueue({"interactive": 8.0, "batch": 1.0})
    for _ in range(4):
        fair.tag(*NIGHTLY, 1000, now=0.0)
        fair.tag(*MODEST, 1000, now=0.0)
    batch = overtaking(fair, asking(4_000), fair.preview(*NIGHTLY), 8_000, flow=NIGHTLY)
    interactive = overtaking(fair, asking(4_000, NIGHTLY), fair.preview(*MODEST), 8_000, MODEST)
    assert batch > 4_000
    assert interactive == 0


def test_equal_tags_are_served_by_arrival_so_nobody_overtakes() -> None:
    fair = FairQueue({"interactive": 8.0, "batch": 1.0})
    tag = fair.tag(*GREEDY, 1000, now=0.0)
    assert fair.preview(*MODEST) == tag
    assert overtaking(fair, asking(1000), tag, 5000) == 0


@pytest.mark.parametrize("start", [0.0, 1e6])
def test_what_was_asked_long_ago_is_forgotten(start: float) -> None:
    arrivals = Arrivals()
    for step in range(400):
        arrivals.add(MODEST, request(10), now=start + step / 100)
    (_, before, sequences, _), *_ = arrivals.rates(start + 4.0)
    (_, after, *_), *_ = arrivals.rates(start + 34.0)
    assert before == pytest.approx(1000, rel=0.1)
    assert sequences == pytest.approx(100, rel=0.1)
    assert after < 1e-3


@pytest.mark.parametrize("half_life_s", [1.0, 2.0])
@pytest.mark.parametrize("before", [0, 50])  # requests of an hour ago
@pytest.mark.parametrize("per_s", [20, 500])
def test_a_steady_flow_is_known_after_half_a_second(
    half_life_s: float, before: int, per_s: int
) -> None:
    arrivals = Arrivals(half_life_s)
    for step in range(before):
        arrivals.add(MODEST, request(10), now=-3600 + step / per_s)
    for step in range(per_s // 2 + 1):
        arrivals.add(MODEST, request(10, answer=30), now=step / per_s)
    (_, prefill, sequences, tokens), *_ = arrivals.rates(0.5)
    assert prefill == pytest.approx(10 * per_s, rel=0.1)
    assert sequences == pytest.approx(per_s, rel=0.1)
    assert tokens == pytest.approx(40 * per_s, rel=0.1)


def test_a_burst_is_not_taken_for_a_flow_that_goes_on_like_this() -> None:
    arrivals = Arrivals(half_life_s=1.0)
    for _ in range(100):
        arrivals.add(MODEST, request(10), now=5.0)
    (_, _, sequences, _), *_ = arrivals.rates(5.0)
    assert sequences <= 500


def test_a_thousand_tenants_of_yesterday_are_not_kept() -> None:
    arrivals = Arrivals()
    for tenant in range(1000):
        arrivals.add((f"{tenant}", "batch"), request(10), now=0.01 * tenant)
    arrivals.add(MODEST, request(10), now=2000.0)
    assert [flow for flow, *_ in arrivals.rates(2000.0)] == [MODEST]


shares = st.lists(st.tuples(st.floats(0.001, 100), st.floats(0.001, 2)), max_size=6).map(sorted)


@given(wait_s=st.floats(0.001, 100), shares=shares)
def test_a_prolonged_wait_is_as_long_as_what_comes_in_it(
    wait_s: float, shares: list[tuple[float, float]]
) -> None:
    longer = prolonged(wait_s, shares)
    comes = sum(share * min(longer, until_s) for until_s, share in shares)
    assert longer == pytest.approx(wait_s + comes, rel=1e-6)
