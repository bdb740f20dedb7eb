"""What a promise of cached tokens is worth, learned from what replicas saw."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.routing.prefix_yield import PrefixYield


def learned(promised: float, cached: float, periods: int = 60, others: float = 0.0) -> float:
    """The yield after some periods of 10,000 tokens each, of which so many shares were cached."""
    hits = PrefixYield()
    for _ in range(periods):
        hits.send(10_000, promised * 10_000)
        grown = 10_000 * (1 + others)
        hits.observe(grown, cached * grown)
    return hits.value


def test_before_anything_was_seen_most_of_a_promise_is_believed() -> None:
    assert 0.5 <= PrefixYield().value < 1.0


@pytest.mark.parametrize("kept", [0.0, 0.25, 0.5, 1.0])
def test_what_promises_turn_out_to_be_worth_is_learned(kept: float) -> None:
    assert learned(promised=0.6, cached=0.6 * kept) == pytest.approx(kept, abs=0.08)


def test_sends_of_other_routers_do_not_make_promises_look_better() -> None:
    alone, one_of_four = learned(0.6, 0.3), learned(0.6, 0.3, others=3.0)
    assert one_of_four == pytest.approx(alone, abs=0.01)


def test_a_few_tokens_do_not_overturn_the_prior() -> None:
    hits = PrefixYield()
    hits.send(100, 50)
    hits.observe(100, 0)
    assert hits.value > 0.6


def test_a_changed_cache_is_noticed_within_seconds() -> None:
    hits = PrefixYield()
    for period in range(80):
        hits.send(10_000, 6_000)
        hits.observe(10_000, 6_000 if period < 40 else 600)
    assert hits.value < 0.3


def test_nothing_is_forgotten_while_nothing_comes() -> None:
    hits = PrefixYield()
    for period in range(200):
        if period < 40:
            hits.send(10_000, 6_000)
        hits.observe(10_000 if period < 40 else 0, 600 if period < 40 else 0)
    assert hits.value < 0.3


@given(st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2, *[st.floats(0, 1e6)] * 2), max_size=20))
def test_always_between_nothing_and_everything(
    periods: list[tuple[float, float, float, float]],
) -> None:
    hits = PrefixYield()
    for prompt, cached, sent, promised in periods:
        hits.send(sent, promised)
        hits.observe(prompt, cached)
        assert 0.0 <= hits.value <= 1.0
