"""How long refusals are kept back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.admission import Backoff


@given(st.lists(st.floats(0.0, 60.0), max_size=200))
def test_a_delay_is_never_negative_and_at_most_a_second(turns: list[float]) -> None:
    backoff = refusing()
    assert all(0.0 <= delay <= 1.0 for delay in delays(backoff, turns))


def refusing() -> Backoff:
    """One that has refused everybody for a while."""
    backoff = Backoff()
    for _ in range(3_000):
        backoff.came(refused=True)
    return backoff


def delays(backoff: Backoff, turns: list[float]) -> list[float]:
    """What each refusal waits for, whose turn of the loop took so long."""
    found = []
    for turn_s in turns:
        backoff.turned(turn_s)
        found.append(backoff.delay_s)
    return found


@pytest.mark.parametrize(("asked", "let_in_at_once"), [(4, 1), (4, 30), (12, 1), (12, 15)])
def test_where_one_in_twelve_is_let_in_nobody_is_kept_back(asked: int, let_in_at_once: int) -> None:
    backoff = Backoff()
    for k in range(20_000):
        backoff.came(refused=k // let_in_at_once % asked > 0)
        backoff.turned(0.05)
        assert backoff.delay_s == 0.0


def test_clients_who_come_back_at_once_wait_soon() -> None:
    """64 of them, refused 450 times a second while two or three of them are served."""
    backoff = Backoff()
    for k in range(5 * 450):
        backoff.came(refused=k % 50 > 0)
        backoff.turned(0.05)
    assert backoff.delay_s == 1.0


def test_a_loop_that_keeps_up_delays_nobody_even_with_one_slow_turn() -> None:
    assert not any(delays(refusing(), [0.2 if k == 50 else 0.001 for k in range(100)]))


def test_a_loop_that_stays_behind_delays_more_and_more_and_forgets_it() -> None:
    backoff = refusing()
    rising = delays(backoff, [0.03] * 100)
    assert rising == sorted(rising)
    assert rising[-1] > 0.5
    assert delays(backoff, [0.0] * 100)[-1] == 0.0
    assert repr(backoff).startswith("<Backoff turns of ")
