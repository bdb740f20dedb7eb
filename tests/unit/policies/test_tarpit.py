"""How long refusals are kept back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forebay.policies.tarpit import Tarpit


@given(st.lists(st.floats(0.0, 60.0), max_size=200))
def test_a_delay_is_never_negative_and_at_most_a_second(turns: list[float]) -> None:
    tarpit = refusing()
    assert all(0.0 <= tarpit.delay_s(turn_s) <= 1.0 for turn_s in turns)


def refusing() -> Tarpit:
    """One that has refused everybody for a while."""
    tarpit = Tarpit()
    for _ in range(1_000):
        tarpit.came(refused=True)
    return tarpit


def test_where_one_in_four_is_let_in_nobody_is_kept_back() -> None:
    tarpit = Tarpit()
    for k in range(2_000):
        tarpit.came(refused=k % 4 > 0)
        assert tarpit.delay_s(0.05) == 0.0


def test_a_loop_that_keeps_up_delays_nobody_even_with_one_slow_turn() -> None:
    tarpit = refusing()
    assert not any(tarpit.delay_s(0.2 if k == 50 else 0.001) for k in range(100))


def test_a_loop_that_stays_behind_delays_more_and_more_and_forgets_it() -> None:
    tarpit = refusing()
    delays = [tarpit.delay_s(0.03) for _ in range(100)]
    assert delays == sorted(delays)
    assert delays[-1] > 0.5
    assert [tarpit.delay_s(0.0) for _ in range(100)][-1] == 0.0
    assert repr(tarpit).startswith("<Tarpit turns of ")
