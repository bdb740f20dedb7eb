"""When slots and KV come free: waves, steady paces, and engines with many slots."""

from __future__ import annotations

import random

import pytest

from forebay.policies.forecast import waiting_time
from forebay.policies.forecast.waiting_time import Releases, Wait, expected_releases
from forebay.policies.request import Cost, OutputModel, Sequence, SharedPrefixes, Ticket


def answers(produced: list[int], cap: int = 100) -> dict[Sequence, None]:
    """Running answers that go on to their cap, with so many tokens made."""
    ticket = Ticket("interactive", 0, Cost(1, 10, cap, cap), 0.0, 1.0, 0.1)
    return {
        Sequence(ticket, 10, 10, cap, float(cap), produced=made, state="running"): None
        for made in produced
    }


def to_the_limit() -> OutputModel:
    outputs = OutputModel(64)
    for _ in range(100):  # answers here run to their limit
        outputs.passed(0, 100_000)
    return outputs


def releases(running: dict[Sequence, None], capacity: int) -> Releases:
    return expected_releases(
        running,
        to_the_limit(),
        SharedPrefixes(),
        answer_tokens=100.0,
        capacity=capacity,
        kv_capacity=1_000_000,
    )


def steps(one: Releases, slots: int) -> float:
    return one.wait(Wait(slots=slots, kv_tokens=0))


def test_answers_that_began_together_end_together_and_so_do_those_that_follow() -> None:
    wave = releases(answers([40] * 10), capacity=10)
    assert steps(wave, 1) == pytest.approx(60, abs=1)
    assert steps(wave, 10) == pytest.approx(60, abs=1)
    assert steps(wave, 11) == pytest.approx(160, abs=1)
    assert steps(wave, 21) == pytest.approx(260, abs=1)


def test_answers_spread_out_give_slots_back_at_a_steady_pace() -> None:
    steady = releases(answers(list(range(0, 100, 10))), capacity=10)
    assert [steps(steady, k) for k in (1, 5, 10, 15)] == pytest.approx([10, 50, 100, 150], abs=6)


def test_slots_that_those_ahead_will_take_come_free_an_answer_later() -> None:
    half = releases(answers([50] * 5), capacity=10)  # 5 more are about to begin
    assert steps(half, 5) == pytest.approx(50, abs=1)
    assert steps(half, 6) == pytest.approx(100, abs=1)
    assert steps(half, 10) == pytest.approx(100, abs=1)


def test_more_to_wait_for_never_takes_less_time() -> None:
    rng = random.Random(1)
    for running in (1, 7, 16):
        one = releases(answers([rng.randrange(100) for _ in range(running)]), capacity=16)
        waits = [steps(one, k) for k in range(1, 60)]
        assert waits == sorted(waits)


def test_of_many_answers_some_tell_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(2)
    running = answers([rng.randrange(100) for _ in range(1000)])
    some = releases(running, capacity=1000)
    monkeypatch.setattr(waiting_time, "_MOST_LOOKED_AT", 1000)
    every = releases(running, capacity=1000)
    for slots in (10, 100, 500, 990):
        assert steps(some, slots) == pytest.approx(steps(every, slots), abs=6)
    assert some.kv_tokens()[-1] == pytest.approx(every.kv_tokens()[-1], rel=0.02)


def test_beyond_the_last_end_that_is_expected_nothing_is_read() -> None:
    wave = releases(answers([40] * 10), capacity=10)
    with pytest.raises(ValueError, match=r"after 61\.0 steps"):
        wave.after(61.0, 10)


def test_read_later_what_should_have_ended_by_then_is_left_out() -> None:
    now = releases(answers(list(range(0, 100, 10))), capacity=10)
    later = now.after(35.0, 7)  # three of the ten have ended
    assert [steps(later, k) for k in (1, 2, 7)] == pytest.approx(
        [steps(now, k) - 35.0 for k in (4, 5, 10)], abs=6
    )
    assert [steps(later.after(20.0, 5), k) for k in (1, 2, 5)] == pytest.approx(
        [steps(now, k) - 55.0 for k in (6, 7, 10)], abs=6
    )
    of_kv = Wait(slots=0, kv_tokens=100)
    assert 0.0 < later.wait(of_kv) < now.wait(of_kv)


def test_a_wait_for_more_cache_than_there_is_takes_as_many_rounds_of_answers() -> None:
    full = expected_releases(
        answers([40] * 10),
        to_the_limit(),
        SharedPrefixes(),
        answer_tokens=100.0,
        capacity=64,
        kv_capacity=1_100,  # ten answers of 10 + 100 tokens
    )
    waits = [full.wait(Wait(slots=0, kv_tokens=n * 1_100 - 10)) for n in (1, 2, 3)]
    assert waits == pytest.approx([60, 160, 260], abs=2)
