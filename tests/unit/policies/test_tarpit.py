"""How long refusals are kept back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.tarpit import Tarpit


@given(st.lists(st.floats(0.0, 60.0), max_size=200))
def test_a_delay_is_never_negative_and_at_most_a_second(turns: list[float]) -> None:
    tarpit = refusing()
    assert all(0.0 <= delay <= 1.0 for delay in delays(tarpit, turns))


def refusing() -> Tarpit:
    """One that has refused everybody for a while."""
    tarpit = Tarpit()
    for _ in range(3_000):
        tarpit.came(refused=True)
    return tarpit


def delays(tarpit: Tarpit, turns: list[float]) -> list[float]:
    """What each refusal waits for, whose turn of the loop took so long."""
    found = []
    for turn_s in turns:
        tarpit.turned(turn_s)
        found.append(tarpit.delay_s)
    return found


@pytest.mark.parametrize(("asked", "let_in_at_once"), [(4, 1), (4, 30), (12, 1), (12, 15)])
def test_where_one_in_twelve_is_let_in_nobody_is_kept_back(asked: int, let_in_at_once: int) -> None:
    tarpit = Tarpit()
    for k in range(20_000):
        tarpit.came(refused=k // let_in_at_once % asked > 0)
        tarpit.turned(0.05)
        assert tarpit.delay_s == 0.0


def test_clients_who_come_back_at_once_wait_soon() -> None:
    """64 of them, refused 450 times a second while two or three of them are served."""
    tarpit = Tarpit()
    for k in range(5 * 450):
        tarpit.came(refused=k % 50 > 0)
        tarpit.turned(0.05)
    assert tarpit.delay_s == 1.0


def test_a_loop_that_keeps_up_delays_nobody_even_with_one_slow_turn() -> None:
    assert not any(delays(refusing(), [0.2 if k == 50 else 0.001 for k in range(100)]))


def test_a_loop_that_stays_behind_delays_more_and_more_and_forgets_it() -> None:
    tarpit = refusing()
    rising = delays(tarpit, [0.03] * 100)
    assert rising == sorted(rising)
    assert rising[-1] > 0.5
    assert delays(tarpit, [0.0] * 100)[-1] == 0.0
    assert repr(tarpit).startswith("<Tarpit turns of ")
