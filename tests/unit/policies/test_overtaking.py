"""Who waits with much queued is told of those who will still go before it."""

from __future__ import annotations

import pytest

from forebay.policies.fairness import FairQueue
from forebay.policies.overtaking import Arrivals, Flow, expected_overtaking

DRAIN = 10_000.0
GREEDY, MODEST = ("greedy", "interactive"), ("modest", "interactive")


def waiting(queued: int) -> tuple[FairQueue, int]:
    """A fair queue in which one tenant has queued so many tokens; the tag of its next request."""
    fair = FairQueue({"interactive": 8.0, "batch": 1.0})
    for _ in range(queued // 1000):
        fair.tag(*GREEDY, 1000, now=0.0)
    return fair, fair.preview(*GREEDY)


def asking(tokens_per_s: float) -> Arrivals:
    arrivals = Arrivals()
    for step in range(400):
        arrivals.add(MODEST, round(tokens_per_s / 100), now=step / 100)
    return arrivals


def overtaking(
    fair: FairQueue, arrivals: Arrivals, tag: int, ahead: int, flow: Flow = GREEDY
) -> float:
    return expected_overtaking(
        fair, arrivals, flow=flow, tag=tag, ahead_tokens=ahead, drain_rate=DRAIN, now=4.0
    )


def test_what_others_ask_for_during_the_wait_is_counted() -> None:
    fair, tag = waiting(5000)
    # 0.5 s of waiting behind 5,000 tokens; in it another asks for 1,000 tokens/s.
    extra = overtaking(fair, asking(1000), tag, 5000)
    assert extra == pytest.approx(500, rel=0.2)


def test_no_more_than_fairness_lets_them() -> None:
    fair, tag = waiting(2000)
    assert overtaking(fair, asking(1_000_000), tag, 2000) == pytest.approx(2000, rel=0.01)


def test_nobody_overtakes_itself_or_a_request_that_is_next() -> None:
    fair, tag = waiting(5000)
    assert overtaking(fair, asking(1000), tag, 5000, flow=MODEST) == 0
    assert overtaking(fair, asking(1000), fair.virtual_time, 5000) == 0


def test_what_was_asked_long_ago_is_forgotten() -> None:
    arrivals = asking(1000)
    (_, before), *_ = arrivals.rates(4.0)
    (_, after), *_ = arrivals.rates(34.0)
    assert before == pytest.approx(1000, rel=0.1)
    assert after < 1e-3
