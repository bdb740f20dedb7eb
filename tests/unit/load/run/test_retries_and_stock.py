from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.load.run.prefetch import Prefetch
from forebay.load.run.retries import RetryPolicy


def wait(**changes: Any) -> float | None:
    told: dict[str, Any] = {
        "attempts": 1, "outcome": "shed", "status": 429, "retry_after_s": None,
        "forbidden": False, "jitter": 0.0,
    }  # fmt: skip
    return RetryPolicy(3).wait_s(**{**told, **changes})


def test_no_retries_by_default() -> None:
    policy = RetryPolicy()
    assert (
        policy.wait_s(
            attempts=1, outcome="shed", status=429, retry_after_s=1, forbidden=False, jitter=0
        )
        is None
    )


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 0.5),
        ({"attempts": 2}, 1.0),
        ({"jitter": 1.0}, 0.375),
        ({"retry_after_s": 7.0}, 7.0),
        ({"retry_after_s": 90.0}, 90.0),
        ({"retry_after_s": 120.0}, 120.0),
        ({"retry_after_s": 121.0}, None),
        ({"retry_after_s": 0.0}, 0.5),
        ({"outcome": "failed", "status": 502}, 0.5),
        ({"outcome": "failed", "status": 408}, 0.5),
        ({"outcome": "dropped", "status": 0}, 0.5),
        ({"outcome": "refused_connection", "status": 0}, 0.5),
        ({"outcome": "failed", "status": 400}, None),
        ({"outcome": "ok", "status": 200}, None),
        ({"outcome": "cancelled", "status": 0}, None),
        ({"outcome": "no_socket", "status": 0}, None),
        ({"forbidden": True}, None),
        ({"attempts": 3}, None),
    ],
)
def test_what_a_client_sends_again(changes: dict[str, Any], seconds: float | None) -> None:
    assert wait(**changes) == seconds


@given(st.integers(1, 50), st.floats(0, 1))
def test_it_never_waits_longer_than_asked_or_than_eight_seconds(
    attempts: int, jitter: float
) -> None:
    seconds = RetryPolicy(100).wait_s(
        attempts=attempts, outcome="shed", status=429, retry_after_s=None,
        forbidden=False, jitter=jitter,
    )  # fmt: skip
    assert seconds is not None
    assert 0 < seconds <= 8


@given(st.integers(0, 200), st.lists(st.booleans(), max_size=300))
def test_a_stock_gives_every_item_once_and_in_order(count: int, refills: list[bool]) -> None:
    waiting: list[Callable[[], None]] = []
    stock = Prefetch(count, lambda place: place, lambda _: 10_000_000)  # 13 fill it
    stock.fill()
    stock.refill(lambda _, call: waiting.append(call))
    taken: list[int] = []
    for refill in [*refills, *([True] * count)]:
        if len(taken) == count:
            break
        taken.append(stock.take())
        if refill and waiting:
            waiting.pop()()
    assert taken == list(range(len(taken)))
